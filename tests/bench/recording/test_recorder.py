"""From the frames of a request to its row."""

import json

import pytest

from tokenhour.bench.recording.frame_log import DUE, END, SENT, TAKEN, Frame
from tokenhour.bench.recording.recorder import RowBuilder
from tokenhour.contracts.records.request import RequestRow


def row_of(*frames: tuple[int, int, bytes]) -> RequestRow | None:
    """Return the row that the recorder makes of these frames."""
    builder = RowBuilder(0, 0, 0)
    about = json.dumps({"id": "x", "prompt": 1, "output": 1}).encode()
    rows = [builder.take(Frame(kind, 1, at, payload)) for kind, at, payload in ((DUE, 10**9, about), *frames)]
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
    row = row_of(*frames, (END, 9 * 10**9, b"connection\0gone"))
    assert (row.taken_s, row.sent_s) == (taken, sent)
