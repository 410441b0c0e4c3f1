"""One connection: when it was opened, where a response ends, and what a lack of sockets does."""

import errno
import select
from pathlib import Path

import pytest

from tests.bench.http.conftest import FakeLoop, exchange
from tokenhour.bench.http import event_loop
from tokenhour.bench.recording.frame_log import DATA, DUE, END, SENT, TAKEN, Frame, Spool, Tail

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Request-Id: a0\r\n\r\n"


def frames_of(file: Path) -> list[Frame]:
    """Read every frame of a spool."""
    tail = Tail(file)
    found = list(tail.frames())
    tail.close()
    return found


def test_a_request_for_which_no_socket_is_left_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of file descriptors, one request fails with the ulimit remedy and the load goes on."""

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    plane = event_loop.EventLoop(FakeLoop(), None, "127.0.0.1", 9)
    plane.spool = Spool(tmp_path / "spool")
    ended: list[str] = []
    monkeypatch.setattr("tokenhour.bench.http.connection._socket.socket", none_left)
    plane.send(1, b"{}", b"GET / HTTP/1.1\r\n\r\n", 5, ended.append)
    plane.spool.close()
    assert ended == ["connection\0Too many open files; raise this machine's limit: ulimit -n"]
    due, end = frames_of(tmp_path / "spool")
    assert (due.kind, end.kind, end.payload.decode()) == (DUE, END, ended[0])
    assert not plane.open


def test_opening_a_connection_is_the_networks_time_and_not_the_clients(tmp_path: Path) -> None:
    """The server takes 50 ms for the connection: the request was taken up before, and sent after."""
    frames, _, _ = exchange(tmp_path)
    by_kind = {frame.kind: frame.at_ns for frame in frames}
    assert by_kind[DUE] <= by_kind[TAKEN] <= by_kind[SENT]


@pytest.mark.system
@pytest.mark.parametrize(
    "answer",
    [
        (HEAD, b"2\r\nok\r\n", b"0\r\n\r\n"),
        (HEAD[:50], HEAD[50:], b"2\r\nok\r\n0\r", b"\n\r\n"),
        (HEAD + b"2\r\nok\r\n0\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: what\r\n\r\n", b"ok", b""),
    ],
    ids=["a header's value ends like a last chunk", "split anywhere", "all at once", "a length that is none"],
)
def test_a_response_ends_with_its_last_chunk_and_no_sooner(tmp_path: Path, answer: tuple[bytes, ...]) -> None:
    """No cut of the bytes ends a response early or leaves it waiting."""
    frames, _, ended = exchange(tmp_path, poller=select.epoll(), answer=answer)
    assert ended == [""]
    assert b"".join(f.payload for f in frames if f.kind == DATA) == b"".join(answer)
