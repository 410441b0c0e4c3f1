"""Frames on disk: whole ones are read, a torn one waits."""

from pathlib import Path

import pytest

from tokenhour.bench.recording.frame_log import DATA, DUE, Spool, Tail

pytestmark = pytest.mark.system


def test_a_torn_spool_gives_its_whole_frames(tmp_path: Path) -> None:
    """A frame that is still being written is left for the next look."""
    spool = Spool(tmp_path / "spool")
    spool.add(DUE, 1, 5, b"{}")
    spool.add(DATA, 1, 6, b"x" * 100)
    spool.close()
    whole = (tmp_path / "spool").read_bytes()
    (tmp_path / "spool").write_bytes(whole[:-1])
    tail = Tail(tmp_path / "spool")
    assert [f.kind for f in tail.frames()] == [DUE]
    with (tmp_path / "spool").open("ab") as stream:
        stream.write(whole[-1:])
    assert [f.payload for f in tail.frames()] == [b"x" * 100]
    tail.close()
