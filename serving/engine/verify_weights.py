"""Whether a checkpoint's files are those of its manifest, judged without making the engine wait for it.

Hashing sixteen gigabytes takes longer than all the rest of what `serving` does. So what is small is hashed before
anything starts, the weights beside the engine's start; a server is declared ready only when both were right.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint

SMALL_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20


class Verification:
    """The hashes of a checkpoint's large files, taken in a thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Hash what is small at once. Raises InputError for a file that is missing or is not the manifest's."""
        self._folder, self._checkpoint = Path(checkpoint.path), checkpoint
        sizes = {name: _size(self._folder / name) for name in checkpoint.files}
        checkpoint.verify(self._folder, [name for name, size in sizes.items() if size <= SMALL_BYTES])
        self._compare_size([size for name, size in sizes.items() if name.endswith(".safetensors")])
        self._large = sorted(name for name, size in sizes.items() if size > SMALL_BYTES)
        self._error: Exception | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hashing the weights", daemon=True)

    def _compare_size(self, sizes: list[int]) -> None:
        """A truncated file crashes an engine long before its hash is known; a shape has no weights to compare."""
        found_bytes, said_bytes = sum(sizes), self._checkpoint.weight_bytes
        if sizes and found_bytes != said_bytes:
            raise InputError(
                f"the weights do not match their manifest: {found_bytes:,} bytes, and {said_bytes:,} in it",
                where=str(self._folder),
                remedy=f"delete {self._folder} and quantize again",
            )

    def done(self) -> bool:
        """Tell whether the last hash is known."""
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise InputError when a file has turned out wrong so far."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for name in self._large:
                self._checkpoint.compare(self._folder, name, self._hash(self._folder / name))
        except _GivenUpError:
            return
        except OSError as error:
            said = f"the weights cannot be read: {error.strerror or error}"
            self._error = InputError(said, where=str(self._folder), remedy="look at the disk, or quantize again")
        except Exception as error:  # noqa: BLE001 (whatever it is, the weights were not verified)
            self._error = error

    def _hash(self, file: Path) -> str:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
                if self._given_up.is_set():
                    raise _GivenUpError
        return digest.hexdigest()

    @contextlib.contextmanager
    def beside(self) -> Iterator[Verification]:
        """Hash while the block runs; give up when it ends."""
        self._thread.start()
        try:
            yield self
        finally:
            self._given_up.set()
            self._thread.join()


class _GivenUpError(Exception):
    """Nobody waits for the hash any more."""


def _size(file: Path) -> int:
    """Return a file's size; 0 for one that is missing, which `verify` then names."""
    try:
        return file.stat().st_size
    except OSError:
        return 0
