"""A checkpoint's name is held by one process at a time, and nothing of that stays."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.quantize.build_lock import claimed

pytestmark = pytest.mark.system


def test_a_name_that_is_held_is_refused_with_its_holder_and_free_afterwards(tmp_path: Path) -> None:
    """Two runs cannot write one checkpoint, other names are unaffected, and no lock file stays behind."""
    folder = tmp_path / "new" / "model"
    with claimed(folder), pytest.raises(InputError, match=f"process {os.getpid()}") as caught, claimed(folder):
        pass
    assert caught.value.where == str(folder)
    assert list(folder.parent.iterdir()) == []
    with claimed(folder), claimed(folder.with_name("other")):
        pass


def test_a_lock_that_its_holder_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened before the removal, locked after it: two would hold different files of one name."""
    real = fcntl.flock
    removed: list[bool] = []

    def late(handle: Any, how: int) -> None:
        if not removed:
            removed.append(True)
            (tmp_path / ".model.lock").unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with claimed(tmp_path / "model"), pytest.raises(InputError, match="another run"), claimed(tmp_path / "model"):
        pass
    assert removed


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_nothing_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A read-only folder is reported with its path."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RunFailedError, match="cannot write here") as caught, claimed(tmp_path / "model"):
        pass
    assert caught.value.where == str(tmp_path)
