"""The front in this process: what it lets through, whom it knows, how it holds, and how it breaks off honestly."""

import asyncio
import contextlib
import hmac
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from tests import ROOT
from tokenhour.contracts.errors import InputError
from tokenhour.serving.launch.engine_env import choose_ports
from tokenhour.serving.proxy.server import ALLOWED, Front, FrontSpec, front
from tokenhour.serving.proxy.upstream import _KEEPALIVE_S

KEY = "0123456789abcdef-very-secret"


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """Start one fake engine for this file and return its address."""
    (port,) = choose_ports("127.0.0.1", [0])
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.fake_engine", str(port), "good"], cwd=ROOT, stdout=-3, stderr=-3
    )
    deadline = time.monotonic() + 15
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    child.kill()
    child.wait()


@contextlib.contextmanager
def fronted(upstream: str, **fields: Any) -> Iterator[tuple[Front, str]]:
    """Put a front before the engine, and yield it with its address."""
    (port,) = choose_ports("127.0.0.1", [0])
    with front(FrontSpec("127.0.0.1", port, upstream, "Toy-w8a8", **fields)) as made:
        yield made, f"http://127.0.0.1:{port}"


def call(url: str, body: object = None, key: str | None = None, timeout: int = 20) -> tuple[int, str]:
    """Send a request and return status and body, of errors too."""
    headers = {"Content-Type": "application/json", **({"Authorization": key} if key else {})}
    data = json.dumps(body).encode() if body is not None else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=timeout) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


ASK = {"model": "Toy-w8a8", "prompt": "x", "max_tokens": 3}


def test_what_clients_need_is_let_through_as_it_is(engine: str) -> None:
    """Completions, streams and the list of models reach the client unchanged."""
    with fronted(engine) as (_, url):
        assert "Paris" in call(f"{url}/v1/completions", ASK)[1]
        status, text = call(f"{url}/v1/completions", {**ASK, "stream": True})
        assert status == 200
        assert text.count("data: ") == 4
        assert text.rstrip().endswith("[DONE]")
        assert json.loads(call(f"{url}/v1/models")[1])["data"][0]["id"] == "Toy-w8a8"


def test_the_allow_list_names_nothing_that_changes_the_server() -> None:
    """No allowed path can put the engine to sleep, load adapters or show internals."""
    forbidden = ("sleep", "wake", "profile", "lora", "reset", "rpc", "weights", "update", "scale", "server_info", "metrics")
    assert not [path for _, path in ALLOWED if any(word in path for word in forbidden)]


def test_the_key_is_compared_in_constant_time(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing digests of equal length leaks nothing about the key; only `/health` needs none."""
    compared, original = [], hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return original(a, b)

    monkeypatch.setattr("tokenhour.serving.proxy.server.hmac.compare_digest", compare)
    with fronted(engine, key=KEY) as (_, url):
        for wrong in (None, "Bearer", "Bearer x", f"Basic {KEY}", KEY, f"Bearer {KEY}x"):
            assert call(f"{url}/v1/models", key=wrong)[0] == 401
        assert call(f"{url}/v1/models", key=f"Bearer {KEY}")[0] == 200
        assert call(f"{url}/health")[0] == 200, "a load balancer has no key"
    assert len(compared) == 7
    assert {len(a) for a, _ in compared} == {32}, "digests of equal length"


def test_requests_wait_before_a_closed_gate_and_none_is_lost(engine: str) -> None:
    """Requests that arrive while the engine sleeps wait for it and are all answered."""
    with fronted(engine) as (made, url):
        assert made.close_when_idle(0.0)
        answers = []
        clients = [threading.Thread(target=lambda: answers.append(call(f"{url}/v1/completions", ASK))) for _ in range(50)]
        for client in clients:
            client.start()
        deadline = time.monotonic() + 10
        while made.in_flight() < 50:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert made.wanted.is_set()
        assert answers == []
        held, waited_s = made.open()
        for client in clients:
            client.join(20)
        assert held == 50
        assert 0 < waited_s < 15
        assert [status for status, _ in answers] == [200] * 50


def test_the_gate_closes_only_when_nobody_is_there(engine: str) -> None:
    """A running or recent request keeps the engine awake."""
    with fronted(engine) as (made, url):
        assert not made.close_when_idle(60.0), "somebody may just have been here"
        slow = threading.Thread(target=call, args=(f"{url}/v1/completions", {**ASK, "hold_s": 0.5}))
        slow.start()
        time.sleep(0.2)
        assert not made.close_when_idle(0.0), "one is being served"
        slow.join()
        assert made.close_when_idle(0.0)


def test_too_many_and_too_long_waits_are_refused_with_when_to_come_again(engine: str) -> None:
    """Waiting is bounded in number and time; whoever exceeds it gets 503 with the reason."""
    with fronted(engine, max_waiting=1, wake_timeout_s=0.5) as (made, url):
        assert made.close_when_idle(0.0)
        first = []
        waiting = threading.Thread(target=lambda: first.append(call(f"{url}/v1/completions", ASK)))
        waiting.start()
        while made.in_flight() < 1:
            time.sleep(0.01)
        status, text = call(f"{url}/v1/completions", ASK)
        assert status == 503
        assert "too many" in text
        waiting.join()
        assert first[0][0] == 503
        assert "did not wake in time" in first[0][1]


def test_a_server_that_stops_takes_no_more_and_tells_those_who_wait(engine: str) -> None:
    """A stopping server answers held, new and health requests with 503, so a load balancer moves on."""
    with fronted(engine) as (made, url):
        made.close_when_idle(0.0)
        held = []
        waiting = threading.Thread(target=lambda: held.append(call(f"{url}/v1/completions", ASK)))
        waiting.start()
        while made.in_flight() < 1:
            time.sleep(0.01)
        made.refuse()
        waiting.join()
        assert held[0][0] == 503
        assert call(f"{url}/health")[0] == 503
        assert call(f"{url}/v1/completions", ASK)[0] == 503


def test_nobody_is_woken_for_those_who_have_gone(engine: str) -> None:
    """Nor does the next one's wait count from theirs."""
    with fronted(engine, wake_timeout_s=0.3) as (made, url):
        made.close_when_idle(0.0)
        assert call(f"{url}/v1/completions", ASK)[0] == 503
        assert not made.wanted.is_set()
        assert made.open() == (0, 0.0)


def test_a_step_that_came_too_late_is_not_taken_after_all(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller believes that the gate is open."""
    with fronted(engine) as (made, url):
        release = threading.Event()
        made._loop.call_soon_threadsafe(release.wait, 10)
        monkeypatch.setattr("tokenhour.serving.proxy.server._START_S", 0.1)
        with pytest.raises(TimeoutError):
            made.close_when_idle(0.0)
        release.set()
        monkeypatch.undo()
        assert "Paris" in call(f"{url}/v1/completions", ASK)[1]


def test_malformed_requests_fill_no_log(engine: str, caplog: pytest.LogCaptureFixture) -> None:
    """Anyone could otherwise flood the log with broken requests."""
    with fronted(engine) as (made, _), socket.create_connection(("127.0.0.1", made.spec.port), timeout=10) as line:
        line.sendall(b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
        assert b"400" in line.recv(1000)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_key_is_not_shown() -> None:
    """The key stays out of the settings' printed form, and so out of logs and tracebacks."""
    assert KEY not in repr(FrontSpec("127.0.0.1", 1, "http://127.0.0.1:2", "toy", key=KEY))


def test_a_connection_is_given_up_before_the_engine_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request on a connection that the engine is just closing would be lost: vLLM keeps an idle one for 5 s."""
    assert _KEEPALIVE_S < 5
    monkeypatch.setattr("tokenhour.serving.proxy.upstream._KEEPALIVE_S", 0.2)
    ports = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def do_POST(self) -> None:
            """Note the connection and answer."""
            self.rfile.read(int(self.headers["Content-Length"]))
            ports.append(self.client_address[1])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        with fronted(f"http://127.0.0.1:{upstream.server_port}") as (_, url):
            for pause_s in (0, 1.0):
                time.sleep(pause_s)
                assert call(f"{url}/v1/completions", ASK)[0] == 200
        upstream.shutdown()
    assert ports[0] != ports[1]


def test_an_engine_that_is_gone_is_a_502() -> None:
    """Clients learn that the engine, not their request, is at fault."""
    (nobody,) = choose_ports("127.0.0.1", [0])
    with fronted(f"http://127.0.0.1:{nobody}") as (_, url):
        status, text = call(f"{url}/v1/completions", ASK)
    assert status == 502
    assert "does not answer" in text


class Broken:
    """An engine that sends one chunk and then either dies or waits to be hung up on."""

    def __init__(self, mode: str) -> None:
        self.mode, self.hung_up = mode, threading.Event()
        (self.port,) = choose_ports("127.0.0.1", [0])
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send a chunk, then break off or wait for the end of the connection."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
        await writer.drain()
        if self.mode == "dies":
            writer.transport.abort()
            return
        while await reader.read(1000):
            pass
        self.hung_up.set()
        writer.close()

    def __enter__(self) -> Self:
        self.thread.start()
        starting = asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.server = asyncio.run_coroutine_threadsafe(starting, self.loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one() -> None:
    """A crash in mid-answer reaches the client as a broken connection, not as a short answer."""
    with Broken("dies") as engine, fronted(f"http://127.0.0.1:{engine.port}") as (_, url):
        with pytest.raises((OSError, Exception)) as caught:
            call(f"{url}/v1/completions", ASK)
        assert type(caught.value).__name__ in {"IncompleteRead", "ConnectionResetError", "RemoteDisconnected"}


def test_a_client_that_hangs_up_does_not_leave_the_engine_working() -> None:
    """Closing the client's connection closes the engine's, so no tokens are computed for nobody."""
    with Broken("waits") as engine, fronted(f"http://127.0.0.1:{engine.port}") as (made, url):
        reply = urllib.request.urlopen(urllib.request.Request(f"{url}/v1/completions", b"{}"), timeout=10)
        assert reply.read(8) == b"data: 1\n"
        reply.close()
        assert engine.hung_up.wait(5)
        deadline = time.monotonic() + 5
        while made.in_flight():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate of this machine and its key, in a folder."""
    folder = tmp_path_factory.mktemp("tls")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(argv, check=True, capture_output=True)
    return folder


def test_tls_is_ended_by_the_front(engine: str, certificate: Path) -> None:
    """The engine speaks plain HTTP behind the front, and plain HTTP from outside is refused."""
    import ssl

    (port,) = choose_ports("127.0.0.1", [0])
    files = {"tls_certificate": str(certificate / "cert.pem"), "tls_key": str(certificate / "key.pem")}
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    with front(FrontSpec("127.0.0.1", port, engine, "toy", **files)):
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/v1/models", context=context, timeout=10) as reply:
            assert reply.status == 200
        with pytest.raises(OSError, match=r"reset|closed|refused|Remote|status line"):
            call(f"http://127.0.0.1:{port}/v1/models")


def test_a_certificate_that_is_none_and_a_taken_port_are_said(engine: str, certificate: Path) -> None:
    """Wrong certificates, locked keys and taken ports become messages, without asking for a password."""
    (port,) = choose_ports("127.0.0.1", [0])
    bad = FrontSpec("127.0.0.1", port, engine, "toy", tls_certificate=str(certificate / "key.pem"))
    with pytest.raises(InputError, match="not a usable certificate"), front(bad):
        pass
    argv: list[str | Path] = ["openssl", "pkey", "-in", certificate / "key.pem", "-aes256", "-passout", "pass:word", "-out"]
    subprocess.run([*argv, certificate / "locked.pem"], check=True, capture_output=True)
    files = {"tls_certificate": str(certificate / "cert.pem"), "tls_key": str(certificate / "locked.pem")}
    locked = FrontSpec("127.0.0.1", port, engine, "toy", **files)
    with pytest.raises(InputError, match="not a usable certificate"), front(locked):
        pytest.fail("nobody was asked for a password")
    with fronted(engine) as (made, _):
        again = FrontSpec("127.0.0.1", made.spec.port, engine, "toy")
        with pytest.raises(InputError, match="cannot listen"), front(again):
            pass
