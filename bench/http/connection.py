"""A socket and the request on it: sent, read as blocks, and followed until the response is whole."""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tokenhour.bench.http.tls import Secure
from tokenhour.bench.recording.frame_log import DATA, END, SENT, TAKEN

WRITE = 2  # as the event loop counts
_SO_TIMESTAMPNS = 35  # Linux; the same number comes back as the type of the control message
LAST_CHUNK = b"0\r\n\r\n"
OnEnd = Callable[[str], None]


class Plane(Protocol):
    """What a connection asks of the event loop that it belongs to."""

    loop: Any
    host: str
    family: int
    address: Any
    tls: ssl.SSLContext | None
    keep_alive: bool
    open: set[ClientConnection]
    idle: deque[ClientConnection]

    def record(self, kind: int, request: int, at_ns: int, payload: bytes = b"") -> None:
        """Append to the frame log."""

    def watch(self, connection: ClientConnection) -> None:
        """Read from a connection whenever its socket has something."""

    def forget(self, connection: ClientConnection) -> None:
        """Stop watching a connection."""

    def send_again(self, request: int, data: bytes, on_end: OnEnd) -> None:
        """Send once more on a new connection."""


class ClientConnection:
    """A socket and the request on it."""

    __slots__ = (
        "began_ns",
        "connected",
        "data",
        "flows",
        "fresh",
        "last_ns",
        "left",
        "mode",
        "on_end",
        "plane",
        "reader",
        "receive",
        "request",
        "secure",
        "sock",
        "stamp_ns",
        "stays",
        "tail",
        "unsent",
        "whole",
        "writer",
    )  # fmt: skip

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self.sock = _socket.socket(plane.family, _socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # the time of reading is taken instead
            self.sock.setsockopt(_socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.receive = self.sock.recvmsg_into
        self.secure = Secure(self, plane.tls, plane.host) if plane.tls else None
        self.connected = False
        self.fresh, self.whole = True, b""
        self.request = -1
        self.data = b""
        self.unsent: bytes | memoryview = b""
        self.on_end: OnEnd | None = None
        self.last_ns = self.began_ns = self.stamp_ns = time.monotonic_ns()
        self.mode, self.left, self.tail, self.stays = "", 0, b"", False
        self.flows = False
        self.reader: Any = None
        self.writer = plane.loop.io(self.sock.fileno(), WRITE)

    def waits(self) -> bool:
        """Tell whether a request is on it."""
        return self.on_end is not None

    def begin(self, request: int, data: bytes, on_end: OnEnd) -> None:
        """Send `data`, connecting first where there is no connection yet."""
        self.request, self.data, self.on_end = request, data, on_end
        self.fresh, self.whole = not self.connected, data
        self.last_ns = self.began_ns = time.monotonic_ns()
        self.mode, self.left, self.tail, self.flows = "", 0, b"", False
        if self.connected:
            self._transmit()
            return
        # What follows is the network's time and the server's: the client was on time when it began.
        self.plane.record(TAKEN, request, self.began_ns)
        code = self.sock.connect_ex(self.plane.address)
        if code in (0, errno.EINPROGRESS):
            self.writer.start(self._on_connected)
        else:
            self.end(f"connection\0{os.strerror(code)}", self.last_ns)

    def _on_connected(self) -> None:
        self.writer.stop()
        code = self.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code:
            self.end(f"connection\0{os.strerror(code)}", time.monotonic_ns())
            return
        self.plane.watch(self)
        if self.secure:
            self.secure.handshake()
        else:
            self.ready()

    def ready(self) -> None:
        """Go on once the connection stands."""
        self.connected = True
        self._transmit()

    def _transmit(self) -> None:
        now = time.monotonic_ns()
        self.last_ns = self.stamp_ns = now
        self.plane.record(SENT, self.request, now)
        if self.secure:
            self.secure.send(self.data)
        else:
            self.push(self.data)

    def push(self, data: bytes | memoryview) -> None:
        """Give bytes to the socket; what it does not take follows when there is room."""
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self.lost(error.strerror or str(error))
            return
        self.unsent = memoryview(data)[taken:] if taken < len(data) else b""
        if self.unsent:
            self.writer.start(self._on_writable)

    def _on_writable(self) -> None:
        self.writer.stop()
        self.push(self.unsent)

    def take(self, data: memoryview, at_ns: int, now_ns: int) -> None:
        """Take what was read: nothing (the server has closed), a block of TLS, or a block of the response."""
        if not data:
            self._on_closed(now_ns)
            return
        block = self.secure.receive(bytes(data)) if self.secure else bytes(data)
        if block:
            self._take(block, at_ns)

    def _take(self, block: bytes, at_ns: int) -> None:
        """Keep a block of the response and see whether it was the last."""
        if self.on_end is None:  # a server that says something on an idle connection is closing it
            self.close()
            return
        self.plane.record(DATA, self.request, at_ns, block)
        if not self.mode:
            self._read_head(block)
        elif self.mode == "chunked":
            self.tail = block if len(block) > 4 else (self.tail + block)[-5:]
        if self.mode == "chunked":
            over = self.tail.endswith(LAST_CHUNK)
            # From now on the plane sees to the blocks itself; small pieces, of which a last chunk may consist, come here.
            self.flows = self.secure is None
        elif self.mode == "length":
            self.left -= len(block)
            over = self.left <= 0
        else:
            over = False
        if over:
            self.end("", at_ns)

    def _read_head(self, block: bytes) -> None:
        """Learn how the response will end: the last chunk, a length, or the end of the connection."""
        self.tail += block
        end = self.tail.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.tail[:end].lower()
        self.stays = self.plane.keep_alive and b"\r\nconnection: close" not in head and head.startswith(b"http/1.1")
        if b"\r\ntransfer-encoding: chunked" in head:
            self.mode = "chunked"
            self.tail = self.tail[end + 4 :]  # a header's value may end like a last chunk
        elif (at := head.find(b"\r\ncontent-length:")) >= 0:
            self.mode = "length"
            # `_take` counts this block off again; those before it are counted here.
            size = head[at + 17 :].split(b"\r\n", 1)[0].split(b",")[0].strip()
            if not size.isdigit():
                self.mode, self.stays = "close", False  # a length that is none: the connection's end is the response's
                return
            self.left = end + 4 + int(size) - (len(self.tail) - len(block))
        else:
            self.mode = "close"

    def _on_closed(self, now: int) -> None:
        if self.mode == "close" and self.on_end is not None:
            # A response that ends with its connection is judged by what it said.
            self.stays = False
            self.end("", now)
            return
        self.lost("the server closed the connection")

    def lost(self, why: str) -> None:
        """Cope with a connection that is gone."""
        self.stays = False
        if self.on_end is None:
            self.close()
        elif self.fresh or self.mode or self.tail:
            self.end(f"connection\0{why}", time.monotonic_ns())
        else:
            on_end, self.on_end = self.on_end, None
            self.close()
            self.plane.send_again(self.request, self.whole, on_end)

    def end(self, reason: str, at_ns: int) -> None:
        """Finish the request and keep or close the connection."""
        self.plane.record(END, self.request, at_ns, reason.encode())
        self.plane.open.discard(self)
        on_end, self.on_end = self.on_end, None
        self.flows = False
        if reason or not self.stays or self.unsent:  # answered before all was sent: the rest must not reach the next request
            self.close()
        else:
            self.last_ns = time.monotonic_ns()
            self.plane.idle.append(self)
        if on_end is not None:
            on_end(reason)

    def close(self) -> None:
        """Close the socket."""
        self.plane.forget(self)
        self.writer.stop()
        self.writer.close()
        self.sock.close()
        self.plane.open.discard(self)
        if self in self.plane.idle:
            self.plane.idle.remove(self)
