"""Writing that never leaves a half: atomic files, atomic folders, and the hashes that lineage is made of."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenhour.contracts.errors import InputError, RunFailedError

_CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Serialise `value` so that equal values have equal bytes (sorted keys, no blanks, no NaN)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str).encode()


def sha256_of(value: Any) -> str:
    """Hash a JSON-like value by its canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hash a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path, kept: str = "nothing incomplete was kept") -> Iterator[None]:
    """Turn a full disk or a read-only folder into one message that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailedError(
                f"no space left on the disk; {kept}",
                where=str(path),
                remedy="free some space (`make doctor` shows what is needed) and run the same command again",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise RunFailedError(
                f"cannot write here: {error.strerror}", where=str(path), remedy="choose a folder you may write to"
            ) from error
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises InputError where a file stands in the way, RunFailedError where nothing may be written.
    """
    with disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                "a file stands where a folder is needed", where=str(path), remedy="name a folder, or move the file away"
            ) from error


def write_bytes_atomic(path: Path, data: bytes, *, overwrite: bool = True) -> None:
    """Write a file so that a reader sees either nothing (or the old one) or all of it.

    Raises FileExistsError when `overwrite` is false and the file stands already.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            part.chmod(0o644)
            if overwrite:
                part.replace(path)
            else:
                os.link(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, replacing what stands there."""
    write_bytes_atomic(path, text.encode())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty work folder beside `path` that becomes `path` only when the block ends without an error.

    A killed process leaves at most a `.NAME.*.part` folder, which the next call for the same path removes. Raises
    InputError when something stands at `path` already.
    """
    if path.exists():
        raise InputError("something stands here that is not ours", where=str(path), remedy="move it away or delete it")
    make_folder(path.parent)
    with disk_errors(path):
        for stale in path.parent.glob(f".{path.name}.*.part"):
            shutil.rmtree(stale, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        part.chmod(0o755)
        try:
            yield part
            part.rename(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
