"""The live state of a server, and a disk that does not take it."""

from pathlib import Path

import pytest

from tokenhour.serving.state import ServerState, read_state

pytestmark = pytest.mark.system


def test_a_state_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """A full disk must not take down a server that works."""
    state = ServerState("toy", "ready", 1, 1, "http://127.0.0.1:1", "toy", "up", "", "")
    state.write(tmp_path / "no such folder")
    state.write(tmp_path)
    assert read_state(tmp_path).run == "toy"
