"""A worker's event loop: which address it connects to, and whose time a block has."""

import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.http.conftest import FakeLoop, exchange
from tokenhour.bench.http import event_loop
from tokenhour.bench.recording.frame_log import DATA, DUE, END, SENT, TAKEN


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


def test_a_name_that_nobody_knows_is_an_error_of_its_own() -> None:
    """An unknown host raises at once, so that the run can name it."""
    began = time.monotonic()
    with pytest.raises(socket.gaierror):
        event_loop.first_that_connects("no-such-host.invalid", 80)
    assert time.monotonic() - began < 30


@pytest.mark.system
@pytest.mark.parametrize("poller", [None, select.epoll])
def test_a_block_has_the_time_at_which_the_kernel_received_it(tmp_path: Path, poller: Callable[[], Any] | None) -> None:
    """A busy client reads late, but the recorded token time is that of the network."""
    early_ns = []
    for attempt in range(5):
        (tmp_path / str(attempt)).mkdir()
        frames, read_at, ended = exchange(tmp_path / str(attempt), poller=poller and poller())
        assert [f.kind for f in frames] == [DUE, TAKEN, SENT, DATA, END]
        assert ended == [""]
        early_ns.append(read_at - frames[3].at_ns)
    # A reading of the two clocks that a busy machine interrupts is not trusted: then the time of reading is taken.
    assert max(early_ns) > 40_000_000


@pytest.mark.system
@pytest.mark.parametrize("step_s", [-3600.0, -0.01, 0.01, 3600.0])
def test_a_stepped_wall_clock_moves_no_time_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """The wall clock is stepped while an answer is under way; the time of reading is taken then, never a shifted one."""
    real = time.time_ns

    def step() -> None:
        monkeypatch.setattr("tokenhour.bench.http.event_loop.time.time_ns", lambda: real() + int(step_s * 1e9))

    frames, read_at, _ = exchange(tmp_path, step, select.epoll())
    assert 0 <= frames[3].at_ns - read_at < 1_000_000_000
