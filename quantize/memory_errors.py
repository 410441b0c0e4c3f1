"""An allocation that failed, as one message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tokenhour.contracts.errors import RunFailedError

_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
)


def out_of_memory(error: Exception) -> bool:
    """Tell whether an allocation failed: torch says so in the text of a RuntimeError."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(s in said for s in _OUT_OF_MEMORY))


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an allocation that failed after all into one message."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise RunFailedError(
            f"memory ran out: {str(error).splitlines()[0] if str(error) else 'an allocation failed'}",
            where=what,
            remedy="close other programs, ask for fewer calibration windows, or use a larger machine",
        ) from error
