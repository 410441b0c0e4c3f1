"""A server that stays: up, status, logs, down, restarts, fleets, idle policies, with trees that answer like engines."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from tests.serving.conftest import KEY, Up, hold, left_over, remember, routers
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.serving.engine.verify_weights import SMALL_BYTES
from tokenhour.serving.preflight import exclusive

pytestmark = pytest.mark.system


def test_a_server_outlives_its_command_and_is_drained_when_told_to_stop(up: Callable[..., Up]) -> None:
    """`serving up` returns once the server is ready; `serving down` lets running requests finish before it stops."""
    server = up(operations={"drain_s": 10})
    server.start()
    record = Server.read(server.run.path)
    assert record.base_url == server.state().base_url
    start = record.cold_start
    assert 0 < start.process_s <= start.weights_s <= start.compile_s <= start.health_s <= start.ready_s
    shown = server.command("status")
    assert shown.returncode == 0
    assert "ready" in shown.stdout
    assert record.base_url in shown.stdout
    logs = server.command("logs", "toy-w8a8", "--lines", "3")
    assert "Loading weights took" in logs.stdout
    again = server.command("up", str(server.root / "experiment.json"))
    assert again.returncode == 2
    assert "another server" in again.stderr
    assert server.state().state == "ready", "a second start of the same run does not disturb the first"
    answers = []
    stream = threading.Thread(target=lambda: answers.append(server.ask(stream=True, max_tokens=60, interval_s=0.02)))
    stream.start()
    time.sleep(0.3)
    done = server.command("down", "toy-w8a8")
    stream.join(60)
    assert done.returncode == 0, done.stderr
    assert answers[0].rstrip().endswith("data: [DONE]"), "the running request ended before the server did"
    assert server.state().state == "stopped"
    assert "nothing to stop" in server.command("down", "--all").stderr


@pytest.mark.parametrize("fronted", [False, True])
def test_a_second_signal_to_the_supervisor_stops_it_at_once(up: Callable[..., Up], fronted: bool) -> None:
    """An operator who cannot wait for the drain signals again, and the whole tree ends within seconds."""
    idle = {"idle": {"policy": "stop", "after_s": 600}} if fronted else {}
    server = up(operations={"drain_s": 60, **idle})
    server.start()
    thread = hold(server.state().base_url)
    supervisor = server.state().supervisor_pid
    os.kill(supervisor, signal.SIGTERM)
    server.until(lambda s: s.state == "draining")
    time.sleep(0.3)
    assert server.state().alive(), "it drains"
    began = time.monotonic()
    os.kill(supervisor, signal.SIGTERM)
    server.until(lambda s: s.state == "stopped", limit_s=30)
    assert time.monotonic() - began < 4
    assert left_over(server.root) == []
    thread.join(10)


def test_a_crash_is_told_within_a_second_with_its_cause(up: Callable[..., Up]) -> None:
    """A crashed engine shows up as failed almost at once, with its cause, so nobody has to dig in logs."""
    server = up()
    server.start()
    with (server.run.path / "server.log").open("a") as log:
        log.write("torch.OutOfMemoryError: CUDA out of memory\n")
    began = time.monotonic()
    os.kill(server.state().replicas[0].pid, signal.SIGKILL)
    state = server.until(lambda s: s.state == "failed")
    assert time.monotonic() - began < 1.5, "a second, and the time to take the tree down"
    assert "out of memory" in state.error
    shown = server.command("status")
    assert shown.returncode == 1
    assert "out of memory" in shown.stdout


def test_a_crashed_engine_is_started_again_when_asked_until_it_is_too_often(up: Callable[..., Up]) -> None:
    """Restarts stop at `max_restarts`, and the log of each crash stays readable and is not mistaken for another's."""
    server = up(operations={"restart": {"max_restarts": 1, "backoff_s": 0.1}})
    server.start()
    first = server.state().replicas[0].pid
    with (server.run.path / "server.log").open("a") as log:
        log.write("torch.OutOfMemoryError: CUDA out of memory\n")
    os.kill(first, signal.SIGKILL)
    state = server.until(lambda s: s.state == "ready" and s.replicas[0].restarts == 1 and s.replicas[0].pid != first)
    assert "ended with exit code" in state.replicas[0].error
    server.until(lambda _: Server.exists(server.run.path) and Server.read(server.run.path).engine_pid != first)
    assert "Paris" in server.ask()
    os.kill(state.replicas[0].pid, signal.SIGKILL)
    state = server.until(lambda s: s.state == "failed")
    said = [(server.run.path / name).read_text() for name in ("server.log.1", "server.log")]
    assert ["out of memory" in text for text in said] == [True, False], "why the first one crashed can be read still"
    assert "out of memory" not in state.error, "and is not taken for why the second one did"


def test_an_engine_that_never_came_up_is_not_started_again(up: Callable[..., Up]) -> None:
    """Restarts are for engines that once worked; a start that fails is reported once with its cause."""
    server = up("dies", operations={"restart": {"max_restarts": 5}})
    done = server.command("up", str(server.root / "experiment.json"))
    assert done.returncode == 1
    assert "out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.state().state == "failed"


def test_an_engine_that_answers_nothing_is_told_and_not_waited_for(up: Callable[..., Up]) -> None:
    """A server whose first completion fails is reported as failed instead of being announced as ready."""
    server = up("mute")
    done = server.command("up", str(server.root / "experiment.json"))
    assert done.returncode == 1
    assert "the first completion failed" in done.stderr
    assert server.state().state == "failed"


@pytest.mark.parametrize("mode", ["fleet", "dies"])
def test_wrong_weights_are_a_mistake_whatever_the_engine_does_of_them(up: Callable[..., Up], mode: str) -> None:
    """They are hashed beside the start, and judged before it is ready."""
    server = up(mode)
    weights = server.root / "model/model.safetensors"
    weights.write_bytes(bytes(8 * SMALL_BYTES))
    remember(server.run, weights)
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    done = server.command("up", str(server.root / "experiment.json"))
    assert done.returncode == 2, done.stderr
    assert "does not match its manifest" in done.stderr
    assert str(weights) in done.stderr
    assert server.state().state == "failed"
    assert not Server.exists(server.run.path)


def test_a_killed_supervisor_leaves_nothing_of_a_fleet(up: Callable[..., Up]) -> None:
    """Even SIGKILL leaves no engine or router behind to hold GPUs, and the next start is not locked out."""
    server = up("keyed", replicas=2, environment={"MY_KEY": KEY}, operations={"api_key_env": "MY_KEY"})
    server.start()
    assert "Paris" in server.ask(key=KEY), "the router hands the key on"
    assert server.status_of("/v1/completions", "POST") == 401
    os.kill(server.state().supervisor_pid, signal.SIGKILL)
    server.until(lambda s: s.state == "killed")
    deadline = time.monotonic() + 45
    while left_over(server.root) or routers(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "killed" in server.command("status").stdout
    with exclusive(server.run):
        pass  # the next start is not locked out


def test_an_idle_engine_is_stopped_and_woken_by_the_next_request_and_both_are_recorded(up: Callable[..., Up]) -> None:
    """An idle engine gives up its memory, loses no request on waking, and ignores paths that clients need not use."""
    server = up(operations={"idle": {"policy": "stop", "after_s": 0.4}})
    server.start()
    server.until(lambda s: s.state == "asleep" and s.replicas[0].pid is None)
    assert server.status_of("/health") == 200
    assert server.status_of("/v1/models") == 200, "asking for the models wakes nobody"
    for path in ("/sleep", "/wake_up", "/start_profile", "/reset_prefix_cache", "/v1/load_lora_adapter", "/collective_rpc"):
        assert server.status_of(path, "POST") == 404
    for path in ("/is_sleeping", "/server_info", "/docs", "//sleep", "/v1/../sleep"):
        assert server.status_of(path) == 404
    assert server.state().state == "asleep", "what is not allowed wakes nobody"
    answers = []
    held = [threading.Thread(target=lambda: answers.append(server.ask())) for _ in range(20)]
    for thread in held:
        thread.start()
    for thread in held:
        thread.join(60)
    assert len(answers) == 20
    assert all("Paris" in answer for answer in answers)
    server.until(lambda s: s.wakes == 1)
    assert server.command("down", "--all").returncode == 0
    record = IdleRecord.read(server.run.path)
    assert record.policy == "stop"
    assert record.gpu_is_free
    assert 0 < record.asleep_s < record.observed_s
    assert record.asleep_share == pytest.approx(record.asleep_s / record.observed_s)
    assert record.held_requests == 20
    assert 0.05 < record.wake_penalty_s.value < 60
    assert record.released_bytes > 10e6, "an interpreter is more than that"


def test_a_fleet_that_lost_a_replica_rests_and_wakes_with_the_others(up: Callable[..., Up]) -> None:
    """One failed replica neither blocks idle sleep nor keeps the others from waking."""
    server = up(replicas=2, operations={"idle": {"policy": "stop", "after_s": 5}})
    server.start()
    os.kill(server.state().replicas[0].pid, signal.SIGKILL)
    server.until(lambda s: s.state == "degraded" and s.replicas[0].state == "failed")
    server.until(lambda s: s.state == "asleep" and s.replicas[1].state == "stopped")
    assert "Paris" in server.ask()
    server.until(lambda s: s.state == "degraded" and s.wakes == 1)
    assert server.command("down", "--all").returncode == 0
    assert IdleRecord.read(server.run.path).accelerators == 1, "two engines on one CPU"


def test_a_wake_that_fails_is_tried_again_and_who_waits_is_answered(up: Callable[..., Up]) -> None:
    """A held request is answered as soon as a later wake succeeds."""
    server = up("moody", operations={"idle": {"policy": "stop", "after_s": 0.4}})
    server.start()
    server.until(lambda s: s.state == "asleep" and s.replicas[0].state == "stopped")
    (server.root / "ill").touch()
    answers = []
    held = threading.Thread(target=lambda: answers.append(server.ask()))
    held.start()
    state = server.until(lambda s: "out of memory" in s.replicas[0].error)
    assert state.state == "asleep"
    (server.root / "ill").unlink()
    held.join(60)
    assert "Paris" in answers[0]


def test_going_down_does_not_wait_for_a_wake_that_takes_long(up: Callable[..., Up]) -> None:
    """`serving down` cancels a slow wake, answers held clients with 503, and records no wake."""
    server = up("moody", operations={"drain_s": 2, "idle": {"policy": "stop", "after_s": 0.4}})
    server.start()
    server.until(lambda s: s.state == "asleep" and s.replicas[0].state == "stopped")
    (server.root / "slow").touch()
    answers = []
    held = threading.Thread(target=lambda: answers.append(server.status_of("/v1/completions", "POST", timeout=90)))
    held.start()
    server.until(lambda s: s.replicas[0].state == "starting" and s.replicas[0].pid)
    began = time.monotonic()
    assert server.command("down", "--all").returncode == 0
    assert time.monotonic() - began < 20
    held.join(30)
    assert answers == [503], "who was held is told, in words"
    assert server.state().state == "stopped"
    assert IdleRecord.read(server.run.path).wakes == ()


def test_what_a_killed_supervisor_left_of_its_idle_record_is_derived_at_the_next_start(up: Callable[..., Up]) -> None:
    """Idle savings survive a killed supervisor: the next `up` or `down` derives the record from the raw events."""
    server = up(operations={"idle": {"policy": "stop", "after_s": 0.4}})
    server.start()
    server.until(lambda s: s.state == "asleep" and s.replicas[0].state == "stopped")
    time.sleep(0.5)  # the event is written once the memory that is left was looked at
    os.kill(server.state().supervisor_pid, signal.SIGKILL)
    server.until(lambda s: s.state == "killed")
    server.start()
    (found,) = server.run.path.glob("superseded/*/idle.json")
    assert IdleRecord.read(found).policy == "stop"
    assert (found.parent / "idle.jsonl").is_file()
    server.until(lambda s: s.state == "asleep" and s.replicas[0].state == "stopped")
    os.kill(server.state().supervisor_pid, signal.SIGKILL)
    server.until(lambda s: s.state == "killed")
    assert "nothing to stop" in server.command("down", "--all").stderr
    assert IdleRecord.exists(server.run.path)


def test_a_secret_is_asked_for_and_stands_nowhere(up: Callable[..., Up]) -> None:
    """Secrets reach the engine, but never a log, a record, a command line or the shown command."""
    secrets = {"MY_KEY": KEY, "HF_TOKEN": "hf-token-0123456789", "REGISTRY_PASSWORD": "correct horse"}
    server = up("leaks", environment=secrets, operations={"api_key_env": "MY_KEY"})
    server.start()
    state = server.state()
    everywhere = [file for file in server.run.path.rglob("*") if file.is_file()]
    assert "server.log" in {file.name for file in everywhere}
    said = (server.run.path / "server.log").read_text()
    assert "my key is *** and ***" in said
    assert "my password is ***" in said
    for file in everywhere:
        for secret in secrets.values():
            assert secret.encode() not in file.read_bytes(), file
    for process in psutil.process_iter(["cmdline"]):
        assert KEY not in " ".join(process.info["cmdline"] or [])
    assert psutil.Process(state.replicas[0].pid).environ()["VLLM_API_KEY"] == KEY
    shown = server.command("command", str(server.root / "experiment.json"))
    assert KEY not in shown.stdout + shown.stderr
    assert 'VLLM_API_KEY="$MY_KEY"' in shown.stdout


def test_an_address_that_is_not_loopback_has_the_front_before_it_and_the_engine_behind_loopback(
    up: Callable[..., Up],
) -> None:
    """A public address exposes only the proxy, which demands the key; the engine and its metrics stay on loopback."""
    server = up("keyed", host="0.0.0.0", environment={"MY_KEY": KEY}, operations={"api_key_env": "MY_KEY"})
    server.start()
    argv = Server.read(server.run.path).argv
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert server.status_of("/health") == 200
    assert server.status_of("/v1/models") == 401
    assert server.status_of("/v1/models", key="wrong-key-0123456789") == 401
    assert server.status_of("/v1/models", key=KEY) == 200
    assert server.status_of("/metrics", key=KEY) == 404, "the counters are not for outside"
    assert "Paris" in server.ask(key=KEY)


def test_a_chatty_engine_does_not_fill_the_disk(up: Callable[..., Up]) -> None:
    """Engine logs rotate at `log.max_mib`, so a server that runs for weeks stays within bounds."""
    server = up("chatty", operations={"log": {"max_mib": 0.1, "keep": 2}})
    server.start()
    deadline = time.monotonic() + 20
    while not (server.run.path / "server.log.2").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sizes = []
    for file in server.run.path.glob("server.log*"):
        with contextlib.suppress(FileNotFoundError):  # it has just been rotated
            sizes.append(file.stat().st_size)
    assert max(sizes) <= 0.1 * 2**20 + 200
