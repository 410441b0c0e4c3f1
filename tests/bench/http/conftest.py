"""An exchange over a real socket, on an event loop that is driven by hand."""

import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenhour.bench.http import connection as connections
from tokenhour.bench.http import event_loop
from tokenhour.bench.recording.frame_log import Frame, Spool, Tail

WHOLE = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",)


class FakeLoop:
    """An event loop that is driven by hand."""

    def __init__(self) -> None:
        self.watchers: dict[Any, Any] = {}

    def io(self, fd: int, events: int) -> "Watcher":
        """Return the watcher of a descriptor."""
        return self.watchers.setdefault((fd, events), Watcher())


class Watcher:
    callback = None

    def start(self, callback: Callable[..., None]) -> None:
        """Keep the callback for the test to call."""
        self.callback = callback

    def stop(self) -> None:
        """Forget the callback."""
        self.callback = None

    def close(self) -> None:
        """Forget the callback."""
        self.callback = None


def exchange(
    tmp_path: Path, between: Callable[[], object] = lambda: None, poller: Any = None, answer: Iterable[bytes] = WHOLE
) -> tuple[list[Frame], int, list[str]]:
    """Send one request over a real socket, with `between` called while the answer is under way; return the frames."""
    listener = socket.create_server(("127.0.0.1", 0))
    loop = FakeLoop()
    plane = event_loop.EventLoop(loop, poller, "127.0.0.1", listener.getsockname()[1])
    plane.spool = Spool(tmp_path / "spool")
    ended: list[str] = []
    plane.send(1, b'{"id": "x"}', b"GET / HTTP/1.1\r\n\r\n", time.monotonic_ns(), ended.append)
    (connection,) = plane.open
    peer, _ = listener.accept()
    loop.watchers[connection.sock.fileno(), connections.WRITE].callback()
    peer.recv(1 << 16)
    between()
    watched = (connection.sock if poller is None else poller).fileno()
    for piece in answer:
        assert ended == []
        peer.sendall(piece) if piece else peer.close()
        time.sleep(0.05)  # the client is late: that must not show in the time of the block
        read_at = time.monotonic_ns()
        loop.watchers[watched, event_loop.READ].callback()
    plane.shut()
    peer.close()
    listener.close()
    plane.spool.close()
    tail = Tail(tmp_path / "spool")
    frames = list(tail.frames())
    tail.close()
    return frames, read_at, ended
