"""A server that stays: up, status, logs, down, restarts, fleets, idle policies, with trees that answer like engines."""

import contextlib
import json
import os
import signal
import socket
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

from tests.serving.supervisor.test_foreground import hold, house, left_over, remember
from tokenhour.contracts.errors import TokenhourError
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.standalone.idle import IdleRecord
from tokenhour.serving.cli import cli
from tokenhour.serving.engine.verify_weights import SMALL_BYTES
from tokenhour.serving.preflight import exclusive
from tokenhour.serving.state import read_state

pytestmark = pytest.mark.system

KEY = "0123456789abcdef-very-secret"


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


def test_what_only_the_supervisor_could_find_is_a_mistake_too(
    up: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a port that was taken after `up` had looked."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = up(port=taken.getsockname()[1])
        monkeypatch.setattr("tokenhour.serving.preflight.choose_ports", lambda _, wanted: list(wanted))
        done = server.command("up", str(server.root / "experiment.json"))
    assert done.returncode == 2, done.stderr
    assert "is taken" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "0 for a free one" in done.stderr


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


def routers(server: Up) -> list[int]:
    """Find the guardian (the router itself changes its title)."""
    pattern = "vllm_router.launch_router"
    urls = {replica.url for replica in server.state().replicas}
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and pattern in process.info["cmdline"] and urls & set(process.info["cmdline"])
    ]


def test_traffic_goes_on_when_one_of_two_replicas_dies_and_it_comes_back(up: Callable[..., Up]) -> None:
    """The surviving replica serves alone, restarts bring back the lost replica or router, and `down` still drains."""
    server = up(replicas=2, operations={"restart": {"max_restarts": 3, "backoff_s": 1.0}})
    server.start()
    record = Server.read(server.run.path)
    assert len(record.replicas) == 2
    assert record.router.startswith("vllm-router")
    assert {json.loads(server.ask())["port"] for _ in range(20)} == {
        int(replica.base_url.rsplit(":", 1)[1]) for replica in record.replicas
    }
    victim = server.state().replicas[0]
    os.kill(victim.pid, signal.SIGKILL)
    survivor = int(record.replicas[1].base_url.rsplit(":", 1)[1])
    assert {json.loads(server.ask())["port"] for _ in range(20)} == {survivor}
    assert server.until(lambda s: s.state == "degraded").replicas[1].state == "ready"
    server.until(lambda s: s.state == "ready" and s.replicas[0].pid not in {None, victim.pid})
    deadline = time.monotonic() + 45
    while json.loads(server.ask())["port"] == survivor:
        assert time.monotonic() < deadline, "the router takes the new one back"
    for child in psutil.Process(routers(server)[0]).children():
        child.kill()
    server.until(lambda s: s.state == "degraded" and all(replica.state == "ready" for replica in s.replicas))
    server.until(lambda s: s.state == "ready")
    answers = []
    stream = threading.Thread(target=lambda: answers.append(server.ask(stream=True, max_tokens=40, interval_s=0.02)))
    stream.start()
    time.sleep(0.3)
    assert server.command("down", "toy-w8a8").returncode == 0
    stream.join(60)
    assert answers[0].rstrip().endswith("data: [DONE]"), "the router outlived the engine's last answer"


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


def test_behind_a_proxy_nothing_of_ours_goes_there(up: Callable[..., Up]) -> None:
    """Neither the probes nor the router's requests, and the key with them."""
    with socket.socket() as proxy:
        proxy.bind(("127.0.0.1", 0))
        proxy.listen()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
        environment = {**dict.fromkeys(names, url), "no_proxy": "", "NO_PROXY": "", "MY_KEY": KEY}
        server = up("keyed", replicas=2, environment=environment, operations={"api_key_env": "MY_KEY"})
        server.start()
        assert "Paris" in server.ask(key=KEY)
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()


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


def test_interrupting_the_command_while_it_waits_takes_the_server_down(up: Callable[..., Up]) -> None:
    """Ctrl-C during `serving up` stops the server that is still starting, instead of leaving it behind."""
    server = up("silent")
    argv = [sys.executable, "-m", "tokenhour", "serving", "up", str(server.root / "experiment.json")]
    argv += ["--results", str(server.root / "results")]
    child = subprocess.Popen(argv, cwd=server.root, stderr=subprocess.PIPE, text=True)
    server.until(lambda s: s is not None and s.replicas and s.replicas[0].pid)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=90)[1]
    assert child.returncode == 130, said
    server.until(lambda s: s.state == "stopped")


def test_a_scheme_that_is_misspelt_is_not_nothing_to_stop(up: Callable[..., Up]) -> None:
    """A mistyped scheme is rejected; otherwise a server would keep running, or the wrong one would stop."""
    server = up()
    file = str(server.root / "experiment.json")
    for words in (("down", file), ("logs", file)):
        done = server.command(*words, "--scheme", "w8a6")
        assert done.returncode == 2
        assert "did you mean w8a8" in done.stderr
    done = server.command("down", "--scheme", "w8a8")
    assert done.returncode == 2, "or another server would be stopped"
    assert "a scheme is one of an experiment's" in done.stderr
    assert server.command("down", file, "--scheme", "w8a8").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("down", "nobody"), "no server nobody"),
        (("logs", "nobody"), "no server nobody"),
        (("logs",), "no server has run here yet"),
        (("nonsense",), "no command 'nonsense'"),
        (("up", "absent.yaml"), "no such file"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Mistakes on the command line show one message and no traceback, so scripts can rely on the exit code."""
    argv = [sys.executable, "-m", "tokenhour", "serving", *words]
    argv += ["--results", str(tmp_path)] if words != ("nonsense",) else []
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_nothing_says_how_to_start(tmp_path: Path) -> None:
    """`serving status` without any server is no error and names the command that starts one."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "status", "--results", str(tmp_path / "none")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "serving up EXP" in done.stdout


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
