"""Servers that others started: our own guardians are none of them, and nobody is judged by somebody else's counters."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import ROOT
from tests.serving.cli.test_scan import policy_file, state
from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.serving.cli.scan import scan
from tokenhour.serving.engine.guardian import ORDERS, children_of
from tokenhour.serving.idle_scan import foreign_servers
from tokenhour.serving.idle_scan.foreign_servers import command_of, once_each
from tokenhour.serving.idle_scan.history import History
from tokenhour.serving.idle_scan.own_servers import servers
from tokenhour.serving.idle_scan.rules import Seen, find, may_stop
from tokenhour.serving.launch.engine_env import choose_port, choose_ports
from tokenhour.serving.state import ReplicaState

# Listens at its second word and tells vLLM's counters; "-" listens nowhere. The other words are for its command line only.
STAND_IN = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b"vllm:num_requests_running 0\\nvllm:request_success_total 7\\n")
    def log_message(self, *_): pass
port = sys.argv[-1]
if port == "-":
    time.sleep(60)
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""
MODULE = ("-m", "vllm.entrypoints.openai.api_server")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Have a module and a program of vLLM's names; start them and take them away."""
    package = tmp_path / "site/vllm/entrypoints/openai"
    package.mkdir(parents=True)
    for name in ("vllm", "vllm/entrypoints", "vllm/entrypoints/openai"):
        (tmp_path / "site" / name / "__init__.py").touch()
    (package / "api_server.py").write_text(STAND_IN)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vllm").write_text(STAND_IN)
    orders = {"log": str(tmp_path / "log"), "log_bytes": 1 << 20, "log_keep": 1, "drain_s": 0, "grace_s": 1, "secrets": []}
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}", ORDERS: json.dumps(orders)}
    started = []

    def start(*words: Any, port: str | int = "-") -> subprocess.Popen[bytes]:
        child = subprocess.Popen([*map(str, words), str(port)], env=environment, stdin=subprocess.PIPE)
        started.append(child)
        deadline = time.monotonic() + 20
        while port != "-" and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics"):
                break
            time.sleep(0.02)
        return child

    yield start
    for child in started:
        child.stdin.close()
        child.terminate()
        child.wait(10)


def serve(tmp_path: Path) -> tuple[str, Path, str]:
    """Return the start of a `vllm serve` command line."""
    return sys.executable, tmp_path / "bin/vllm", "serve"


def seen(found: list[Seen], *processes: subprocess.Popen[bytes]) -> list[Seen]:
    """Keep what was found of these processes and their descendants."""
    pids = {pid for process in processes for pid in (process.pid, *foreign_servers.descendants(process.pid))}
    return [each for each in found if each.pid in pids]


def test_a_guardian_is_no_server_beside_the_engine_that_it_guards(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Its command line is the engine's: it looked like a second, forgotten server of the same checkpoint."""
    port = choose_port("127.0.0.1", 0)
    guard = house(
        sys.executable,
        "-m",
        "tokenhour.serving.engine.guardian",
        sys.executable,
        *MODULE,
        "--model",
        "/c",
        "--port",
        port,
        port=port,
    )
    (engine,) = children_of(guard.pid)
    found = seen(servers(tmp_path / "results", History(), 0.0), guard)
    assert [(each.pid, each.checkpoint, each.unjudged) for each in found] == [(engine, "/c", "")]


def test_of_our_own_server_nothing_is_seen_twice_and_nothing_becomes_waste(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A server of this project appears once, under its run's name, and its guardian never counts as idle."""
    port = choose_port("127.0.0.1", 0)
    guard = house(
        sys.executable,
        "-m",
        "tokenhour.serving.engine.guardian",
        sys.executable,
        *MODULE,
        "--model",
        "/c",
        "--port",
        port,
        port=port,
    )
    (engine,) = children_of(guard.pid)
    folder = tmp_path / "results/prod-chat"
    folder.mkdir(parents=True)
    now_s = time.time()
    replicas = (ReplicaState("ready", f"http://127.0.0.1:{port}", pid=engine),)
    state(guard.pid, run="prod-chat", started_utc="2999-01-01T00:00:00+00:00", replicas=replicas).write(folder)
    history, policy = History(), ScanPolicy(stop=("pinned-idle-weights", "forgotten-clone"), protect=("prod",))
    for passed_s in (0.0, 60.0, 3600.0):
        found = servers(tmp_path / "results", history, now_s + passed_s)
        mine = seen(found, guard)
        assert [each.run for each in mine] == ["prod-chat"]
        assert engine in mine[0].pids
        assert find([], mine, [], policy) == []


def test_what_runs_beside_a_server_of_ours_is_not_taken_for_a_strangers(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """The supervisor's whole tree is known, the command of `serving run` too; here the supervisor is this test."""
    port = choose_port("127.0.0.1", 0)
    child = house(*serve(tmp_path), "B", "--port", port, port=port)
    (tmp_path / "results/toy").mkdir(parents=True)
    state(os.getpid(), started_utc="2999-01-01T00:00:00+00:00").write(tmp_path / "results/toy")
    assert seen(servers(tmp_path / "results", History(), 0.0), child) == []


def test_a_strangers_idle_server_is_waste_with_time_unless_its_command_line_is_protected(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """`protect` patterns match foreign command lines too, and API keys in them are not shown."""
    port = choose_port("127.0.0.1", 0)
    child = house(*serve(tmp_path), "/models/prod-b", "--api-key", "sesame", f"--port={port}", port=port)
    history = History()
    for passed_s in (0.0, 60.0, 3600.0):
        found = seen(servers(tmp_path, history, passed_s), child)
    assert [(each.pid, each.url, each.checkpoint) for each in found] == [
        (child.pid, f"http://127.0.0.1:{port}", "/models/prod-b")
    ]
    named = ScanPolicy(stop=("pinned-idle-weights",))
    (waste,) = find([], found, [], named)
    assert (waste.confirmed, waste.run) == (True, f"pid {child.pid}")
    assert may_stop(waste, named)
    assert not may_stop(waste, named.model_copy(update={"protect": ("prod",)}))
    assert "sesame" not in waste.command


def test_a_server_is_not_judged_by_what_another_one_answers_at_its_port(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """As a container's server, whose port 8000 is not this machine's."""
    port = choose_port("127.0.0.1", 0)
    other = house(*serve(tmp_path), "A", "--port", port, port=port)
    contained = house(*serve(tmp_path), "B", "--port", port)
    history = History()
    for passed_s in (0.0, 60.0, 3600.0):
        found = {each.pid: each for each in seen(servers(tmp_path, history, passed_s), other, contained)}
    assert found[other.pid].idle_s == 3540.0
    assert found[contained.pid].idle_s is None
    assert "listens at port" in found[contained.pid].unjudged
    assert [each.pid for each in find([], list(found.values()), [], ScanPolicy())] == [other.pid]


@pytest.mark.usefixtures("gpu")
def test_one_that_cannot_be_judged_is_told(house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """A server whose counters are out of reach is listed as such instead of vanishing from the scan."""
    contained = house(*serve(tmp_path), "B", "--port", "8000")
    words = ["--results", str(tmp_path), "--policy", str(policy_file(tmp_path))]
    said = CliRunner().invoke(scan, words, catch_exceptions=False)
    assert said.exit_code == 0
    assert f"cannot be judged  pid {contained.pid}" in said.output
    told = json.loads(CliRunner().invoke(scan, [*words, "--json"], catch_exceptions=False).output)
    assert contained.pid in [each["pid"] for each in told["servers_not_judged"]]


def test_a_wrapper_and_a_forked_worker_are_no_servers_of_their_own(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Only the process that serves is counted; otherwise one server would look like several forgotten ones."""
    port = choose_port("127.0.0.1", 0)
    line = " ".join(map(str, (*serve(tmp_path), "B", "--port", port)))
    wrapper = house("sh", "-c", f'{line} "$0" & wait', port=port)
    (engine,) = children_of(wrapper.pid)
    try:
        assert [each.pid for each in seen(servers(tmp_path, History(), 0.0), wrapper)] == [engine]
    finally:
        os.kill(engine, signal.SIGTERM)
    worker = command_of(11, "vllm serve B", frozenset({11}))
    parent = command_of(10, "vllm serve B", frozenset({10, 11}))
    assert worker is not None
    assert parent is not None
    assert once_each([worker, parent]) == [parent]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python /usr/bin/vllm serve B --port=8001", (8001, "B")),
        ("python -m vllm.entrypoints.openai.api_server --model /c", (8000, "/c")),
        ("vllm serve B", (8000, "B")),
        ("vllm serve --port 1 --port 2 --model=M", (2, "M")),
        (
            "python -m tokenhour.serving.engine.guardian python -m vllm.entrypoints.openai.api_server --model /c --port 5",
            None,
        ),
        ("VLLM::EngineCore", None),
        ("vim vllm-serve.md", None),
    ],
)
def test_a_command_line_is_read_as_the_engine_reads_it(line: str, expected: tuple[int | str, ...] | None) -> None:
    """Port and model follow vLLM's own rules and defaults, so the right address is judged."""
    found = command_of(1, line, frozenset({1}))
    assert (found and (found.port, found.model)) == expected


def test_the_address_that_a_server_listens_at_is_asked(
    house: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Listening sockets are found per process, so a server is asked at its real address."""
    first, _ = choose_ports("127.0.0.1", [0, 0])
    child = house(*serve(tmp_path), "B", "--port", first, port=first)
    assert ("127.0.0.1", first) in foreign_servers.listening()[child.pid]
