"""What an engine may send, byte for byte, and what reaches the client through the front."""

import asyncio
import contextlib
import gzip
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from tokenhour.serving.launch.engine_env import choose_ports
from tokenhour.serving.proxy.server import FrontSpec, front
from tokenhour.serving.proxy.upstream import EngineGoneError, Upstream

# What an engine sends, or does with its connection.
Piece = bytes | Callable[[socket.socket], object]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Scripted:
    """An engine that answers the n-th request with the n-th script: pieces of bytes, each sent by itself, or functions."""

    def __init__(self, *scripts: list[Piece]) -> None:
        self.scripts, self.connections = list(scripts), 0
        self.requests: list[Any] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            while request := self._request(line):
                self.requests.append(request)
                for piece in self.scripts.pop(0) if self.scripts else ():
                    if callable(piece):
                        piece(line)
                    else:
                        line.sendall(piece)
                        time.sleep(0.01)

    @staticmethod
    def _request(line: socket.socket) -> bytes:
        got = b""
        while b"\r\n\r\n" not in got:
            block = line.recv(1 << 16)
            if not block:
                return b""
            got += block
        head = got.partition(b"\r\n\r\n")[0].lower()
        length = next((int(f.split(b":")[1]) for f in head.split(b"\r\n") if f.startswith(b"content-length")), 0)
        while len(got.partition(b"\r\n\r\n")[2]) < length:
            got += line.recv(1 << 16)
        return got


def close(line: socket.socket) -> None:
    """End the engine's connection."""
    line.shutdown(socket.SHUT_RDWR)


class Client:
    """One connection to a front: called, it posts and returns (status, headers, body)."""

    def __init__(self, port: int) -> None:
        self.port, self.line = port, http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def __call__(self, body: bytes = b'{"a": 1}', **headers: str) -> tuple[int, list[tuple[str, str]], bytes]:
        """Post the body with these headers."""
        self.line.request("POST", "/v1/completions", body, headers)
        reply = self.line.getresponse()
        return reply.status, reply.getheaders(), reply.read()


@contextlib.contextmanager
def asking(engine: Scripted) -> Iterator[Client]:
    """Yield a client that posts through a front on one connection."""
    (port,) = choose_ports("127.0.0.1", [0])
    with front(FrontSpec("127.0.0.1", port, f"http://127.0.0.1:{engine.port}", "toy")):
        ask = Client(port)
        yield ask
        ask.line.close()


@contextlib.contextmanager
def connected(engine: Scripted) -> Iterator[socket.socket]:
    """Yield a socket to a front before `engine`."""
    with asking(engine) as ask, socket.create_connection(("127.0.0.1", ask.port), timeout=10) as line:
        yield line


@pytest.mark.parametrize(
    "script",
    [
        [LENGTH % (4, b"abcd")],
        [LENGTH % (4, b""), b"ab", b"cd"],
        [CHUNKED, b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"],
        [CHUNKED, b"4;name=x\r\nab", b"cd\r", b"\n0\r\n", b"Trailer: x\r\n\r\n"],
        [CHUNKED[:20], CHUNKED[20:], b"4\r\nabcd\r\n0\r\n", b"\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\nab", b"cd", close],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", LENGTH % (4, b"abcd")],
    ],
)
def test_each_kind_of_answer_arrives_whole(script: list[Piece]) -> None:
    """Bodies by length, by chunks or until the end of the connection all arrive, however they are split."""
    with Scripted(script, [LENGTH % (1, b"2")]) as engine, asking(engine) as ask:
        status, headers, body = ask()
        assert (status, body) == (200, b"abcd")
        assert "Link" not in dict(headers)
        assert ask()[2] == b"2", "and the client's connection goes on"


def test_headers_pass_but_for_those_of_one_connection() -> None:
    """Request ids and retry hints pass through; hop-by-hop headers do not."""
    answer = b"HTTP/1.1 429 Slow\r\nX-A: 1\r\nX-A: 2\r\nRetry-After: 7\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"
    with Scripted([answer]) as engine, asking(engine) as ask:
        status, headers, body = ask(**{"X-Request-Id": "r1", "TE": "trailers", "Content-Type": "application/json"})
    assert (status, body) == (429, b"")
    assert [value for name, value in headers if name == "X-A"] == ["1", "2"]
    assert dict(headers)["Retry-After"] == "7"
    assert "Keep-Alive" not in dict(headers)
    (asked,) = engine.requests
    assert asked.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % engine.port)
    assert asked.endswith(b'\r\n\r\n{"a": 1}')
    assert b"\r\nX-Request-Id: r1\r\n" in asked
    assert asked.lower().count(b"content-length: 8\r\n") == 1
    assert b"trailers" not in asked


def test_an_expectation_is_answered_by_the_front_and_goes_no_further() -> None:
    """Clients that send `Expect: 100-continue` are answered at once, and the engine never sees it."""
    with Scripted([LENGTH % (2, b"ok")]) as engine, connected(engine) as line:
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert b" 100 " in line.recv(1000)
        line.sendall(b"{}")
        got = b""
        while not got.endswith(b"ok"):
            got += line.recv(1000)
    assert b"expect" not in engine.requests[0].lower()


def test_connections_are_kept_and_used_again() -> None:
    """A connection per request would add its setup to every measured latency."""
    with Scripted(*[[LENGTH % (1, b"x")]] * 3) as engine, asking(engine) as ask:
        for _ in range(3):
            assert ask()[2] == b"x"
    assert engine.connections == 1


def test_one_that_the_engine_does_not_keep_is_not_used_again() -> None:
    """After `Connection: close` the next request opens a new connection instead of failing."""
    last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    with Scripted([last], [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert [ask()[2], ask()[2]] == [b"x", b"y"]
    assert engine.connections == 2


def test_a_request_that_met_a_closing_connection_is_sent_once_more() -> None:
    """An engine that closes an idle connection just then costs the client no error."""
    with Scripted([LENGTH % (1, b"x")], [close], [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert [ask()[2], ask()[2]] == [b"x", b"y"]
    assert len(engine.requests) == 3
    assert engine.requests[1] == engine.requests[2]


@pytest.mark.parametrize("fault", [[b"HTTP/1.1 2", close], [lambda _: time.sleep(1.2), close]])
def test_a_request_that_the_engine_began_or_died_over_is_not_sent_again(fault: list[Piece]) -> None:
    """A request that may have been computed is not repeated; the client gets a 502."""
    with Scripted([LENGTH % (1, b"x")], fault, [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert ask()[0] == 200
        status, _, body = ask()
    assert status == 502
    assert b"does not answer" in body
    assert len(engine.requests) == 2


def test_however_many_connections_were_kept_it_is_sent_once_more_and_no_oftener() -> None:
    """One retry is enough: a dead engine is not tried once for each kept connection."""
    together = threading.Barrier(3)
    first = [lambda _: together.wait(5), LENGTH % (1, b"x")]

    async def ask(upstream: Upstream) -> None:
        connection = await upstream.ask("POST", "/v1/completions", (), b"{}")
        await connection._end
        connection.release()

    async def story(upstream: Upstream) -> None:
        await asyncio.gather(*(ask(upstream) for _ in range(3)))
        with pytest.raises(EngineGoneError):
            await ask(upstream)
        upstream.close()

    with Scripted(first, first, first, *[[close]] * 4) as engine:
        asyncio.run(story(Upstream(f"http://127.0.0.1:{engine.port}")))
    assert len(engine.requests) == 3 + 2


def test_what_is_left_of_a_request_that_was_answered_early_does_not_stand_before_the_next() -> None:
    """A connection with an unfinished upload is not reused; its rest would garble the next request."""

    class Hasty(Scripted):
        @staticmethod
        def _request(line: socket.socket) -> bytes:
            return line.recv(1000)

    refused, over = b"HTTP/1.1 400 Bad\r\nContent-Length: 1\r\n\r\nx", threading.Event()
    with Hasty([refused, lambda _: over.wait(10)], [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert ask(body=bytes(24 << 20))[0] == 400
        assert ask()[2] == b"y"
        over.set()
    assert engine.connections == 2


def test_half_of_an_answer_for_which_nobody_asked_does_not_stand_before_the_next() -> None:
    """Stray bytes discard the connection, so no client receives another's answer."""
    stray = (LENGTH % (4, b"abcd")) + b"HTTP/1.1 200 OK\r\nCont"
    with Scripted([stray], [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert [ask()[2], ask()[2]] == [b"abcd", b"y"]
    assert engine.connections == 2


def test_an_answer_without_a_body_ends_without_its_connection() -> None:
    """A 204 is complete with its headers, and its connection is kept."""
    with Scripted([b"HTTP/1.1 204 No Content\r\n\r\n"], [LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert [ask()[0], ask()[2]] == [204, b"y"]
    assert engine.connections == 1


def test_a_packed_request_goes_on_unpacked_and_says_so() -> None:
    """Gzipped requests are unpacked by the front, and the engine sees no compression."""
    with Scripted([LENGTH % (1, b"y")]) as engine, asking(engine) as ask:
        assert ask(body=gzip.compress(b'{"a": 2}'), **{"Content-Encoding": "gzip"})[0] == 200
    assert engine.requests[0].endswith(b'\r\n\r\n{"a": 2}')
    assert b"gzip" not in engine.requests[0]


def test_the_engine_is_asked_for_the_path_that_was_looked_at() -> None:
    """The checked path is the one sent on; a fragment cannot smuggle in a forbidden one."""
    with Scripted([LENGTH % (2, b"ok")]) as engine, connected(engine) as line:
        line.sendall(b"POST /v1/completions?x=1#/../../sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert b" 200 " in line.recv(1000)
    assert engine.requests[0].startswith(b"POST /v1/completions?x=1 HTTP/1.1\r\n")


def test_a_client_that_hangs_up_before_the_answer_begins_stops_the_engine() -> None:
    """The engine does not go on thinking for a client that has left."""
    gone = threading.Event()

    def think(line: socket.socket) -> None:
        assert line.recv(1) == b""
        gone.set()

    with Scripted([think]) as engine, connected(engine) as line:
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        while not engine.requests:
            time.sleep(0.01)
        line.close()
        assert gone.wait(5)


def test_a_client_that_neither_reads_nor_leaves_does_not_keep_the_engine_working() -> None:
    """It has said that it is done, and takes no more: its connection cannot be closed in order."""
    gone = threading.Event()

    def flood(line: socket.socket) -> None:
        try:
            while True:
                line.sendall(b"10000\r\n%b\r\n" % bytes(1 << 16))
        except OSError:
            gone.set()

    with Scripted([CHUNKED, flood]) as engine, connected(engine) as line:
        line.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        line.recv(100)
        line.shutdown(socket.SHUT_WR)
        assert gone.wait(5)


def test_an_answer_that_is_no_http_is_a_502() -> None:
    """Something other than an engine at the address is reported as such."""
    with Scripted([b"SSH-2.0-OpenSSH\r\n"]) as engine, asking(engine) as ask:
        status, _, body = ask()
    assert status == 502
    assert b"no HTTP" in body


@pytest.mark.parametrize("script", [[LENGTH % (9, b"abcd"), close], [CHUNKED, b"4\r\nabcd\r\n", close], [CHUNKED, b"zz"]])
def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(script: list[Piece]) -> None:
    """A truncated or malformed body is never passed on as a complete one."""
    with Scripted(script) as engine, asking(engine) as ask, pytest.raises((http.client.HTTPException, OSError)):
        ask()


@pytest.mark.parametrize("kept", [b"", b"Connection: keep-alive\r\n"])
def test_a_client_of_http_1_0_gets_the_body_without_chunks(kept: bytes) -> None:
    """Old clients cannot read chunks, so their body ends with the connection."""
    with Scripted([CHUNKED, b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"]) as engine, connected(engine) as line:
        line.sendall(b"POST /v1/completions HTTP/1.0\r\n%bContent-Length: 2\r\n\r\n{}" % kept)
        got = b""
        while block := line.recv(1000):
            got += block
    assert got.endswith(b"\r\n\r\nabcd")


def test_a_client_that_reads_slowly_holds_the_engine_back_and_loses_nothing() -> None:
    """Not the front's memory, but the engine's socket keeps what is too much."""
    size, sent = 64 << 20, threading.Event()
    block = bytes(range(256)) * 256

    def body(line: socket.socket) -> None:
        for _ in range(size // len(block)):
            line.sendall(b"%x\r\n%b\r\n" % (len(block), block))
        sent.set()
        line.sendall(b"0\r\n\r\n")

    with Scripted([CHUNKED, body]) as engine, asking(engine) as ask:
        client = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=20)
        client.request("POST", "/v1/completions", b"{}")
        reply = client.getresponse()
        assert not sent.wait(2.5), "the engine was let go on into memory"
        got = 0
        while piece := reply.read(1 << 20):
            assert piece[:256] == bytes(range(256))
            got += len(piece)
        client.close()
    assert got == size
