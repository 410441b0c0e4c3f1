"""One process at a time makes a checkpoint: two would remove each other's unfinished files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import disk_errors, make_folder


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a checkpoint's name for this process; the kernel lets go of it however the process ends.

    Raises InputError, which names the other process, when it is held already.
    """
    make_folder(folder.parent)
    file = folder.with_name(f".{folder.name}.lock")
    with disk_errors(folder.parent):
        lock = _locked(file, folder)
    with lock:
        try:
            yield
        finally:
            # While it is still held: who opened it meanwhile sees that it is not the one that stands there.
            file.unlink(missing_ok=True)


def _locked(file: Path, folder: Path) -> TextIO:
    while True:
        lock = file.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with lock:
                raise InputError(
                    f"another run is making this checkpoint{_holder(lock)}",
                    where=str(folder),
                    remedy="wait until it has ended, then run the same command: what it made is reused",
                ) from error
        if _stands(lock, file):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            return lock
        lock.close()


def _holder(lock: TextIO) -> str:
    lock.seek(0)
    said = lock.read().strip()
    return f" (process {said})" if said else ""


def _stands(lock: TextIO, file: Path) -> bool:
    """Tell whether the file that was locked is still the one of that name: its last holder removes it."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except FileNotFoundError:
        return False
