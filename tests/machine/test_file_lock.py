"""One process at a time, by a lock file that names its holder."""

import os
from pathlib import Path

import pytest

from tokenhour.contracts.errors import InputError
from tokenhour.machine.file_lock import locked


def test_who_comes_second_is_told_what_is_held_and_by_whom(tmp_path: Path) -> None:
    """The message names the holder's process and the remedy, and the file is gone with the lock."""
    file = tmp_path / ".lock"
    with locked(file, "it is taken", where=tmp_path, remedy="wait for it"):
        with (
            pytest.raises(InputError, match=rf"it is taken \(process {os.getpid()}\)") as caught,
            locked(file, "it is taken", where=tmp_path, remedy="wait for it"),
        ):
            pytest.fail("two hold it")
        assert (caught.value.where, caught.value.remedy) == (str(tmp_path), "wait for it")
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_left_locks_nobody_out(tmp_path: Path) -> None:
    """The kernel's lock counts, not the file: the next one takes it though the earlier holder's name stands in it."""
    file = tmp_path / ".lock"
    for _ in range(2):
        with locked(file, "it is taken", where=tmp_path, remedy="wait for it", leave=True):
            pass
        assert file.read_text() == str(os.getpid())
