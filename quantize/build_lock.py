"""One process at a time makes a checkpoint: two would remove each other's unfinished files."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tokenhour.contracts.io.atomic_io import make_folder
from tokenhour.machine.file_lock import locked


def claimed(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a checkpoint's name for this process. Raises InputError, which names the other process, when it is held."""
    make_folder(folder.parent)
    return locked(
        folder.with_name(f".{folder.name}.lock"),
        "another run is making this checkpoint",
        where=folder,
        remedy="wait until it has ended, then run the same command: what it made is reused",
    )
