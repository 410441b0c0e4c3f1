"""A worker's connections: which address, what is recorded before the first byte, and what a lack of sockets does."""

import errno
import json
import socket
import time
from pathlib import Path

import pytest

from tests.bench.whole.test_faults import FakeLoop, exchange
from tokenhour.bench.http import event_loop
from tokenhour.bench.recording.frame_log import DUE, END, SENT, TAKEN, Frame, Spool, Tail
from tokenhour.bench.recording.recorder import Book
from tokenhour.contracts.records.request import RequestRow


def frames_of(file: Path) -> list[Frame]:
    """Read every frame of a spool."""
    tail = Tail(file)
    found = list(tail.frames())
    tail.close()
    return found


def test_of_several_addresses_the_first_that_takes_a_connection_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is ::1 first in many hosts files; the server listens on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        both = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        monkeypatch.setattr("tokenhour.bench.http.event_loop.socket.getaddrinfo", lambda *_, **__: both)
        plane = event_loop.EventLoop(FakeLoop(), None, "localhost", port)
    assert (plane.family, plane.address) == (socket.AF_INET, ("127.0.0.1", port))


def test_where_no_address_takes_a_connection_the_first_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody listening the run still gets an address, whose refusal it can record."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (9, 10)]
    monkeypatch.setattr("tokenhour.bench.http.event_loop.socket.getaddrinfo", lambda *_, **__: found)
    assert event_loop.first_that_connects("localhost", 9) == (socket.AF_INET, ("127.0.0.1", 9))


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


def book_of(*frames: tuple[int, int, bytes]) -> RequestRow | None:
    """Return the row that the recorder makes of these frames."""
    book = Book(0, 0, 0)
    about = json.dumps({"id": "x", "prompt": 1, "output": 1}).encode()
    rows = [book.take(Frame(kind, 1, at, payload)) for kind, at, payload in ((DUE, 10**9, about), *frames)]
    return rows[-1]


@pytest.mark.parametrize(
    ("frames", "taken", "sent"),
    [
        (((TAKEN, 2 * 10**9, b""), (SENT, 3 * 10**9, b"")), 2.0, 3.0),
        (((SENT, 3 * 10**9, b""),), None, 3.0),
        (((SENT, 3 * 10**9, b""), (TAKEN, 4 * 10**9, b""), (SENT, 5 * 10**9, b"")), None, 3.0),
    ],
    ids=["a new connection", "one that stood", "one that stood and was closed"],
)
def test_a_row_says_when_the_client_took_a_request_up(
    frames: tuple[tuple[int, int, bytes], ...], taken: float | None, sent: float
) -> None:
    """Connecting is timed only for a new connection; a reused one has no such time."""
    row = book_of(*frames, (END, 9 * 10**9, b"connection\0gone"))
    assert (row.taken_s, row.sent_s) == (taken, sent)


def test_a_name_that_nobody_knows_is_an_error_of_its_own() -> None:
    """An unknown host raises at once, so that the run can name it."""
    began = time.monotonic()
    with pytest.raises(socket.gaierror):
        event_loop.first_that_connects("no-such-host.invalid", 80)
    assert time.monotonic() - began < 30
