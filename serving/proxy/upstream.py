"""The engine as the front sees it: requests go over kept connections, and what it answers is handed on as it comes.

httptools parses. Each block of a body reaches the client's transport within the callback that read it: a coroutine woken
for every token would cost more than all the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

# Shorter than the 5 s for which vLLM keeps an idle connection: a request must not meet one that is just being closed.
_KEEPALIVE_S = 3.0
_CONNECT_S = 10.0
# What a client that reads slowly may have waiting here before the engine's answer is left in its socket.
_MOST_UNSENT_BYTES = 1 << 18
# A kept connection that ends this soon after a request was being closed anyway; later, the engine died over the request.
_STALE_WITHIN_S = 1.0
# Of one connection only, and what is said anew for the next; Expect is answered by the front itself.
_NOT_PASSED = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
        "upgrade", "host", "content-length", "expect",
    }
)  # fmt: skip
_DECODED = frozenset({b"gzip", b"deflate", b"br", b"zstd"})  # aiohttp hands on a request's body without these
_NO_BODY = frozenset({204, 304})


class EngineGoneError(Exception):
    """The engine does not answer, or broke off in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Head:
    """How an answer begins."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Those that are passed on."""
    length: int | None
    """Bytes of the body; None where it ends with a last chunk or with the connection."""


class UpstreamConnection(asyncio.Protocol):
    """A connection to the engine, and the answer that comes over it."""

    def __init__(self, upstream: Upstream) -> None:
        self.idle_since = 0.0
        self._upstream = upstream
        self._transport: asyncio.Transport
        self._parser: Any = None
        self._sink: asyncio.WriteTransport | None = None
        self._lost: str | None = None
        self._held = False
        """Nothing is read from the engine, since the client has not taken what came."""
        self.began = 0.0
        self.heard = False
        """A byte of the answer has come."""

    def begin(self, request: bytes) -> None:
        """Send a request; its answer is read from now on."""
        loop = asyncio.get_running_loop()
        self.began = time.monotonic()
        self.heard = False
        self._parser = self._upstream.http.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._early: list[bytes] = []
        self._ends_with_connection = False
        self._over = self._stays = False
        self._head: asyncio.Future[Head] = loop.create_future()
        self._end: asyncio.Future[None] = loop.create_future()
        self._news = asyncio.Event()
        for outcome in (self._head, self._end):  # nobody may be there to hear of a failure
            outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._lost is not None:
            self._fail(self._lost)
        else:
            self._transport.write(request)

    async def head(self) -> Head:
        """Wait until the answer begins. Raises EngineGoneError."""
        return await self._head

    async def pass_on(self, sink: asyncio.WriteTransport, drain: Callable[[], Awaitable[None]], *, chunked: bool) -> None:
        """Write the body to `sink` as it comes, each block framed as a chunk if asked for, until it ends.

        `drain` waits until the client has taken most of what was written. The last chunk is left to the caller. Raises
        EngineGoneError when the answer breaks off.
        """
        self._chunked = chunked
        self._sink = sink
        early, self._early = self._early, []
        for block in early:
            self.on_body(block)
        while not self._end.done():
            await self._news.wait()
            self._news.clear()
            if self._held:
                await drain()
                self._read_on()
        self._end.result()

    def release(self) -> None:
        """Keep the connection for another request, or close it when the answer has not come to its end."""
        self._sink = None
        # An answer may come before all of the request was sent: the rest must not stand before the next one.
        if self._over and self._stays and self._lost is None and not self._transport.get_write_buffer_size():
            self._read_on()
            self._upstream.keep(self)
        else:
            self._transport.abort()

    def _read_on(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = False

    def close(self) -> None:
        """Close it."""
        self._transport.abort()

    # --- called by the event loop -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; the parser calls the `on_` methods."""
        if self._parser is None or self._over:
            self._transport.abort()  # nothing was asked
            return
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (self._upstream.http.HttpParserError, self._upstream.http.HttpParserUpgrade) as error:
            self._fail(f"no HTTP: {error}")
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """End what was under way: well, where the answer ends with its connection."""
        self._lost = str(error or "it closed the connection")
        self._upstream.forget(self)
        if self._parser is None or self._over:
            return
        if error is None and self._ends_with_connection:
            self.on_message_complete()
        else:
            self._fail(self._lost)

    # --- called by the parser ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See whether a second answer begins, for which nobody asked."""
        if self._over:
            self._stays = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are not passed on."""
        if not self._head.done():
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Tell how the answer begins."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = []
            return
        named = [(n.decode("latin-1"), v.decode("utf-8", "surrogateescape")) for n, v in self._headers]
        lower = {name.lower(): value for name, value in named}
        length = lower.get("content-length")
        self._ends_with_connection = length is None and "transfer-encoding" not in lower and status not in _NO_BODY
        passed = tuple((name, value) for name, value in named if name.lower() not in _NOT_PASSED)
        self._head.set_result(Head(status, passed, int(length) if length else None))

    def on_body(self, block: bytes) -> None:
        """Hand a block on."""
        sink = self._sink
        if sink is None:
            self._early.append(block)
            return
        if sink.is_closing():  # maybe with bytes that the client never takes: nobody else would stop the engine
            self._fail("the client has gone")
            self._transport.abort()
            return
        sink.write(b"%x\r\n%b\r\n" % (len(block), block) if self._chunked else block)
        if not self._held and sink.get_write_buffer_size() > _MOST_UNSENT_BYTES:
            self._held = True
            self._transport.pause_reading()
            self._news.set()

    def on_message_complete(self) -> None:
        """Tell that the answer is whole."""
        if not self._head.done():  # an informational one
            return
        self._over, self._stays = True, not self._ends_with_connection and self._parser.should_keep_alive()
        if not self._end.done():
            self._end.set_result(None)
        self._news.set()

    def _fail(self, why: str) -> None:
        for outcome in (self._head, self._end):
            if not outcome.done():
                outcome.set_exception(EngineGoneError(why))
        self._news.set()


def _passes(name: bytes, value: bytes) -> bool:
    lower = name.decode("latin-1").lower()
    return lower not in _NOT_PASSED and not (lower == "content-encoding" and value.strip().lower() in _DECODED)


class Upstream:
    """The engine, or the router before several, at `url` (http://HOST:PORT)."""

    def __init__(self, url: str) -> None:
        import httptools

        self.http = httptools  # not imported where no front is, nor looked up for every token
        where = urlsplit(url)
        self._named = where.netloc
        self._host, self._port = where.hostname or "127.0.0.1", where.port or 80
        self._idle: deque[UpstreamConnection] = deque()

    async def ask(self, method: str, target: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamConnection:
        """Send a request and return its connection once the answer has begun; release it in the end.

        Raises EngineGoneError. A request that met a kept connection which was just being closed is sent once more, on
        a new one. RFC 9110 (9.2.2) keeps proxies from that for what must not be repeated; a completion changes nothing.
        """
        lines = [f"{method} {target} HTTP/1.1\r\nHost: {self._named}\r\n".encode()]
        lines += [b"%b: %b\r\n" % pair for pair in headers if _passes(*pair)]
        if body or method != "GET":
            lines.append(b"Content-Length: %d\r\n" % len(body))
        request = b"".join((*lines, b"\r\n", body))
        kept = self._kept()
        if kept is not None:
            try:
                return await self._begun(kept, request)
            except EngineGoneError:
                if kept.heard or time.monotonic() - kept.began > _STALE_WITHIN_S:
                    raise
        return await self._begun(await self._connect(), request)

    @staticmethod
    async def _begun(connection: UpstreamConnection, request: bytes) -> UpstreamConnection:
        connection.begin(request)
        try:
            await connection.head()
        except BaseException:  # such as being cancelled, since the client has gone
            connection.release()
            raise
        return connection

    async def _connect(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                return (await loop.create_connection(lambda: UpstreamConnection(self), self._host, self._port))[1]
        except TimeoutError:
            raise EngineGoneError(f"no connection within {_CONNECT_S:g} s") from None
        except OSError as error:
            raise EngineGoneError(error.strerror or str(error)) from error

    def _kept(self) -> UpstreamConnection | None:
        oldest = time.monotonic() - _KEEPALIVE_S
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()
        return self._idle.pop() if self._idle else None

    def keep(self, connection: UpstreamConnection) -> None:
        """Take a connection back for another request."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a connection that is gone."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()
