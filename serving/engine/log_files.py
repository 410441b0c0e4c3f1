"""The engine's log: written with rotation and without secrets, read by its end or as it grows."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

_HIDDEN = b"***"
_SECRET_NAMES = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
_SHORTEST_SECRET = 8
_LONGEST_LINE = 1 << 16
_FOLLOW_S = 0.2
_READ_BYTES = 4 << 20


def secrets_in(environment: Mapping[str, str], names: Iterable[str]) -> tuple[bytes, ...]:
    """Return the values that no log may show: of the variables `names`, and of all that are named like a secret.

    The latter from 8 characters on: a shorter value would blacken words that are none.
    """
    named = {environment[name] for name in names if name in environment}
    named |= {
        value for name, value in environment.items() if name.endswith(_SECRET_NAMES) and len(value) >= _SHORTEST_SECRET
    }
    return tuple(value.encode(errors="surrogateescape") for value in sorted(named) if value)


class RotatingLog:
    """Append lines to a file; past `max_bytes` it becomes FILE.1, FILE.1 becomes FILE.2, and `keep` of those stay.

    Each of `secrets` is replaced by *** before it reaches the disk; so that none is cut in two, whole lines are written.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int, secrets: tuple[bytes, ...] = ()) -> None:
        self._path, self._max_bytes, self._keep = path, max_bytes, keep
        self._secrets = tuple(sorted((secret for secret in secrets if secret), key=len, reverse=True))
        self._partial = b""
        self._file: BinaryIO = path.open("wb")
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what the engine printed; the last unfinished line waits for its end."""
        whole, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if newline:
            self._write(whole + newline)
        if len(self._partial) > _LONGEST_LINE:
            self._finish()

    def close(self) -> None:
        """Write what still waits, and end."""
        self._finish()
        with contextlib.suppress(OSError):
            self._file.close()

    def _finish(self) -> None:
        self._write(self._partial)
        self._partial = b""

    def _write(self, data: bytes) -> None:
        for secret in self._secrets:
            data = data.replace(secret, _HIDDEN)
        # A full disk must not stop the engine: what cannot be written is lost.
        with contextlib.suppress(OSError):
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            self._file.write(data)
            self._file.flush()
            self._size += len(data)

    def _rotate(self) -> None:
        self._file.close()
        set_aside(self._path, self._keep)
        self._file = self._path.open("wb")
        self._size = 0


def set_aside(path: Path, keep: int) -> None:
    """Make FILE to FILE.1 and FILE.1 to FILE.2, up to `keep`; one that is empty or not there pushes nothing out."""
    if not keep or not path.exists() or not path.stat().st_size:
        return
    for number in range(keep - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            numbered(path, number).replace(numbered(path, number + 1))
    path.replace(numbered(path, 1))


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what tells a finished log from every other one: inode and last write. None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def numbered(path: Path, number: int) -> Path:
    """Return the name of an older log: server.log.1."""
    return path.with_name(f"{path.name}.{number}")


def read_all(path: Path, without: tuple[int, int] | None = None) -> str:
    """Return the end of the newest log and of the one before it, oldest first; empty when there is none.

    `without` is the identity of a log to leave out: that of an earlier engine.
    """
    text = ""
    for file in (numbered(path, 1), path):
        if without is not None and identity_of(file) == without:
            continue
        with contextlib.suppress(OSError), file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _READ_BYTES))
            text += stream.read().decode(errors="replace")
    return text


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last `count` lines, looking into the rotated log where the newest is short."""
    return read_all(path).splitlines()[-count:]


def follow(path: Path) -> Iterator[str]:
    """Yield lines as they are written, through rotations, until the caller stops asking."""
    file, inode, pending, first = None, -1, "", True
    try:
        while True:
            if file is None:
                with contextlib.suppress(OSError):
                    fresh = path.open(errors="replace")
                    file, inode = fresh, os.fstat(fresh.fileno()).st_ino
                    if first:
                        file.seek(0, os.SEEK_END)
            first = False
            if file is not None and (text := file.read()):
                *lines, pending = (pending + text).split("\n")
                yield from lines
                continue
            if file is not None and _replaced(path, inode):
                file.close()
                file, inode, pending = path.open(errors="replace"), path.stat().st_ino, ""
                continue
            time.sleep(_FOLLOW_S)
    finally:
        if file is not None:
            file.close()


def _replaced(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino != inode
    except OSError:
        return False
