"""What a load worker writes while the clock runs: raw frames, looked into later by `tokenhour.bench.recording.recorder`.

A frame is a head (kind, request, length, time in ns of the worker's monotonic clock) and as many bytes. Frames are appended
at once, so that memory does not grow with the run and a killed worker leaves everything that it had received.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DUE, SENT, DATA, END, RESENT, TAKEN = range(6)
"""Planned arrival (payload: JSON about the request), request sent, bytes received, request over (payload: why, or
nothing), sent again since the server had closed the idle connection, taken up by opening a connection for it."""
_HEAD = struct.Struct("<BIIq")
frame_head = _HEAD.pack
"""Kind, request, length of the payload, ns; the payload follows."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; `at_ns` on the worker's monotonic clock."""

    kind: int
    request: int
    at_ns: int
    payload: bytes


class Spool:
    """Frames on their way to a file."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.parts: list[bytes] = []
        """Heads and payloads by turns, since the last `flush`."""

    def add(self, kind: int, request: int, at_ns: int, payload: bytes = b"") -> None:
        """Append a frame; it is written with the next `flush`."""
        self.parts += (frame_head(kind, request, len(payload), at_ns), payload)

    def flush(self) -> None:
        """Hand everything to the kernel. Raises OSError (a full disk)."""
        if not self.parts:
            return
        data = memoryview(b"".join(self.parts))
        self.parts.clear()
        while data:
            data = data[os.write(self._handle, data) :]

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            os.close(self._handle)


class Tail:
    """Reads a spool that is still being written; a torn last frame waits for its rest."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb", buffering=0)
        self._rest = b""

    def frames(self, limit_bytes: int = 1 << 24) -> Iterator[Frame]:
        """Yield the whole frames that have been written since the last call, up to about `limit_bytes`."""
        data = self._rest + (self._stream.read(limit_bytes) or b"")
        at, end = 0, len(data)
        while at + _HEAD.size <= end:
            kind, request, size, at_ns = _HEAD.unpack_from(data, at)
            body = at + _HEAD.size
            if body + size > end:
                break
            at = body + size
            yield Frame(kind, request, at_ns, data[body:at])
        self._rest = data[at:]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
