"""One process at a time: a lock file that names its holder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import disk_errors

# Somebody who has just removed the file that we opened is not one who holds it: it is tried again for so long.
_PATIENCE_S = 0.2
_AGAIN_S = 0.02


@contextlib.contextmanager
def locked(file: Path, held: str, *, where: Path, remedy: str, leave: bool = False) -> Iterator[None]:
    """Hold `file` for this process; the kernel lets go of it however the process ends. It is removed unless `leave`.

    Raises InputError, which says what is `held` and by which process, when another one has it.
    """
    import filelock  # takes asyncio with it

    lock = filelock.FileLock(file, timeout=_PATIENCE_S, poll_interval=_AGAIN_S)
    with disk_errors(file.parent):
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise InputError(f"{held}{_holder(file)}", where=str(where), remedy=remedy) from error
    try:
        with disk_errors(file.parent):
            file.write_text(str(os.getpid()))
        yield
    finally:
        if not leave:
            # While it is still held: who opened it meanwhile sees that it has no name any more.
            file.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    with contextlib.suppress(OSError):
        if said := file.read_text().strip():
            return f" (process {said})"
    return ""
