"""A line that says what is going on: rewritten in place on a terminal, printed now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from tokenhour.contracts.units import human_seconds

_TERMINAL_PERIOD_S = 0.25
_PLAIN_PERIOD_S = 15.0


class Status:
    """Show `title`, the latest `update` and the elapsed time on `stream` while the block runs."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._text = ""
        self._began = time.monotonic()
        self._done = threading.Event()
        self._terminal = self._stream.isatty()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def update(self, text: str) -> None:
        """Replace what is said after the title."""
        self._text = text

    def elapsed_s(self) -> float:
        """Seconds since the block began."""
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        if not self._terminal:
            self._write("\n")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if self._terminal:
            self._stream.write("\r\033[K")
        if kind is None:
            self._write("\n")
        self._stream.flush()

    def _run(self) -> None:
        while not self._done.wait(_TERMINAL_PERIOD_S if self._terminal else _PLAIN_PERIOD_S):
            self._write("" if self._terminal else "\n")

    def _write(self, end: str) -> None:
        start = "\r\033[K" if self._terminal else ""
        text = f": {self._text}" if self._text else ""
        elapsed = self.elapsed_s()
        spent = f"  [{human_seconds(round(elapsed))}]" if elapsed >= 1 else ""
        self._stream.write(f"{start}   {self._title}{text}{spent}{end}")
        self._stream.flush()
