"""Requests and the bytes that come back: non-blocking sockets on the event loop, stamped first and parsed by somebody else.

All sockets are read in one callback of the event loop (libev through gevent), which asks an epoll of our own who has
something: each is read once, its time taken, and the block appended to the spool. No greenlet is switched and nothing is
parsed, so that one core follows about a hundred thousand chunks a second (`tokenhour bench calibrate` says how many).
The time of a block is the kernel's own receive time where it gives one (SO_TIMESTAMPNS), so that a busy client does not
count as latency. That time is on the wall clock: it is turned into an age and taken from the monotonic clock, and
forgotten whenever the two clocks have moved against each other.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import time
from collections import deque
from typing import Any, Protocol

from tokenhour.bench.http.connection import LAST_CHUNK, ClientConnection, OnEnd
from tokenhour.bench.recording.frame_log import DATA, DUE, END, RESENT, Spool, frame_head

READ = 1  # as the event loop counts
_CLOSING = 0x2000 | 0x10 | 0x8  # EPOLLRDHUP, EPOLLHUP, EPOLLERR; gevent hides the names
_ON_CHANGE = 1 << 31  # EPOLLET: told once when something comes, so that nobody is asked twice about what was read
_BUFFER_BYTES = 1 << 18
_CONTROL_BYTES = 64
_CLOCKS_AGREE_NS = 200_000
_OLDEST_NS = 1_000_000_000
_READINGS = 5
_TRIAL_S = 2.0  # for an address that leads nowhere, while there are others
_IDLE_NS = 2_000_000_000  # below every server's own patience with an idle connection (uvicorn: 5 s)
_FLUSH_PARTS = 4096
_AT_ONCE, _TURNS = 128, 4  # sockets read before the senders have their turn: a few milliseconds at most
_monotonic_ns = time.monotonic_ns
_stamp = struct.Struct("qq").unpack_from


class Loop(Protocol):
    """What is used of gevent's event loop."""

    def io(self, fd: int, events: int) -> Any:
        """Make a watcher of a file descriptor."""


class Poller(Protocol):
    """What is used of select.epoll."""

    def register(self, fd: int, events: int) -> None:
        """Watch a file descriptor until it is closed."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return (file descriptor, events) of those that have something."""

    def fileno(self) -> int:
        """Return the file descriptor that says whether anyone has something."""


def clock_shift_ns() -> int:
    """Return the monotonic clock less the wall clock, from the reading that was least disturbed of several."""
    found = []
    for _ in range(_READINGS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        found.append((after - before, (before + after) // 2 - wall))
    return min(found)[1]


def first_that_connects(host: str, port: int) -> tuple[int, Any]:
    """Return family and address of a server, of several the first that takes a connection; the first where none does.

    A hosts file may list ::1 first for a server that listens on 127.0.0.1 alone. Raises OSError for a name that is unknown.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, _, _, address in found if len(found) > 1 else ():
        with contextlib.suppress(OSError), socket.socket(family, kind) as trial:
            trial.settimeout(_TRIAL_S)
            trial.connect(address)
            return family, address
    return found[0][0], found[0][4]


class EventLoop:
    """All connections of a worker to one server. Without a poller each socket has a watcher of its own, which is slower."""

    def __init__(
        self, loop: Loop, poller: Poller | None, host: str, port: int, *, tls: bool = False, keep_alive: bool = True
    ) -> None:
        self.loop = loop
        self.poller = poller
        self.by_fd: dict[int, ClientConnection] = {}
        self.watcher = None if poller is None else loop.io(poller.fileno(), READ)
        if self.watcher is not None:
            self.watcher.start(self._read_all)
        self.host = host
        self.family, self.address = first_that_connects(host, port)
        self.tls = ssl.create_default_context() if tls else None
        self.keep_alive = keep_alive
        self.spool: Spool | None = None
        self.view = memoryview(bytearray(_BUFFER_BYTES))
        self.buffers = [self.view]
        self.shift_ns = clock_shift_ns()
        self.open: set[ClientConnection] = set()
        self.idle: deque[ClientConnection] = deque()
        self.broken: OSError | None = None
        """Why nothing can be recorded any more, such as a full disk."""
        self.connections = 0

    def send(self, request: int, about: bytes, data: bytes, due_ns: int, on_end: OnEnd) -> None:
        """Send one request; `on_end` is called once, with "" or the reason of failure: maybe before this returns."""
        self.record(DUE, request, due_ns, about)
        self._send_on(self._idle_one(), request, data, on_end)

    def send_again(self, request: int, data: bytes, on_end: OnEnd) -> None:
        """Send once more on a new connection: the server had closed the idle one, and no byte of an answer had come.

        What HTTP asks of every client (RFC 9112, section 9.3.1) and no retry: an answer, such as 429, is never asked for
        again.
        """
        self.record(RESENT, request, time.monotonic_ns())
        self._send_on(None, request, data, on_end)

    def _send_on(self, connection: ClientConnection | None, request: int, data: bytes, on_end: OnEnd) -> None:
        try:
            connection = connection or self._new_one()
        except OSError as error:  # such as no file descriptor left: the request failed, and the probe goes on
            hint = "; raise this machine's limit: ulimit -n" if error.errno == errno.EMFILE else ""
            reason = f"connection\0{error.strerror}{hint}"
            self.record(END, request, time.monotonic_ns(), reason.encode())
            on_end(reason)
            return
        self.open.add(connection)
        connection.begin(request, data, on_end)

    def _new_one(self) -> ClientConnection:
        self.connections += 1
        return ClientConnection(self)

    def _idle_one(self) -> ClientConnection | None:
        oldest = time.monotonic_ns() - _IDLE_NS
        while self.idle and self.idle[0].last_ns < oldest:
            self.idle.popleft().close()
        return self.idle.pop() if self.idle else None

    def record(self, kind: int, request: int, at_ns: int, payload: bytes = b"") -> None:
        """Append to the spool; once writing it has failed, nothing more is recorded and `broken` says why."""
        if self.spool is not None and self.broken is None:
            self.spool.add(kind, request, at_ns, payload)

    def flush(self) -> None:
        """Let what is recorded be seen by the recorder."""
        if self.spool is None or self.broken is not None:
            return
        try:
            self.spool.flush()
        except OSError as error:
            self.broken = error

    def _read_all(self) -> None:
        for _ in range(_TURNS):  # the loop's own round costs as much as reading a chunk
            ready = self.poller.poll(0, _AT_ONCE)  # type: ignore[union-attr]
            if not ready:
                break
            self._read(ready)

    def _read(self, ready: list[tuple[int, int]]) -> None:  # noqa: C901, PLR0912 (a call more for every chunk would show)
        """Read once from each socket that has something and take the time."""
        by_fd, buffers, view, spool = self.by_fd, self.buffers, self.view, self.spool
        kept: list[bytes] = spool.parts if spool is not None and self.broken is None else []
        for fd, events in ready:
            connection = by_fd.get(fd)
            if connection is None:  # closed by one of those before it
                continue
            try:
                count, control, _, _ = connection.receive(buffers, _CONTROL_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                connection.lost(error.strerror or str(error))
                continue
            now = at = _monotonic_ns()
            if control:
                shift = now - time.time_ns()
                if not -_CLOCKS_AGREE_NS < shift - self.shift_ns < _CLOCKS_AGREE_NS:
                    shift = clock_shift_ns()  # this process was held up between the readings, or the wall clock was stepped
                if -_CLOCKS_AGREE_NS < shift - self.shift_ns < _CLOCKS_AGREE_NS:
                    seconds, rest = _stamp(control[0][2])
                    received = seconds * 1_000_000_000 + rest + shift
                    if now - _OLDEST_NS < received <= now:
                        at = received
                self.shift_ns = shift
            if at < connection.stamp_ns:  # noqa: PLR1730 (max() takes three times as long)
                at = connection.stamp_ns
            connection.last_ns, connection.stamp_ns = now, at
            if count and (events & _CLOSING or count == _BUFFER_BYTES):
                ready.append((fd, events))  # there is more, of which no change will tell
            if not connection.flows or count < 5:
                connection.take(view[:count], at, now)
                continue
            block = bytes(view[:count])
            kept += (frame_head(DATA, connection.request, count, at), block)
            connection.tail = block
            if block[-5:] == LAST_CHUNK:
                connection.end("", at)
        if len(kept) > _FLUSH_PARTS:
            self.flush()

    def watch(self, connection: ClientConnection) -> None:
        """Read from a connection whenever its socket has something, until it is closed."""
        fd = connection.sock.fileno()
        self.by_fd[fd] = connection
        if self.poller is None:
            connection.reader = self.loop.io(fd, READ)
            connection.reader.start(lambda: self._read([(fd, READ)]))
        else:
            self.poller.register(fd, READ | _CLOSING | _ON_CHANGE)

    def forget(self, connection: ClientConnection) -> None:
        """Stop watching a connection whose socket is about to be closed; the poller forgets it with the socket."""
        if connection.reader is not None:
            connection.reader.stop()
            connection.reader.close()
            connection.reader = None
        self.by_fd.pop(connection.sock.fileno(), None)

    def overdue(self, inactivity_ns: int, total_ns: int) -> None:
        """End the requests that have waited too long for a byte, or for their end."""
        now = time.monotonic_ns()
        for connection in [c for c in self.open if now - c.last_ns > inactivity_ns or now - c.began_ns > total_ns]:
            silent = now - connection.last_ns > inactivity_ns
            detail = f"nothing for {inactivity_ns / 1e9:g} s" if silent else f"longer than {total_ns / 1e9:g} s"
            connection.end(f"timeout\0{detail}", now)

    def abandon(self) -> None:
        """Close every open request: its outcome does not matter any more."""
        now = time.monotonic_ns()
        for connection in list(self.open):
            connection.end("cancelled\0the probe's outcome was certain", now)

    def close(self) -> None:
        """Close all connections."""
        for connection in [*self.open, *self.idle]:
            connection.close()
        self.idle.clear()

    def shut(self) -> None:
        """Close all connections, and watch no more."""
        self.close()
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
