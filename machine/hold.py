"""Keeps settings of the kernel for as long as wanted: `python -m tokenhour.machine.hold '{"FILE": "VALUE", ...}'`.

A process of its own, so that they are set back even where the one that wanted them is killed: it writes them, says so on
standard output ({"held": true} or {"failed": why}), and writes the earlier ones when its standard input closes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
import time
from pathlib import Path

_PATIENCE_S = 2.0
_PAUSE_S = 0.05


def set_to(file: Path, value: str) -> str:
    """Write a setting; return what it was. Raises OSError."""
    before = file.read_text().split()[-1]  # /proc/PID/autogroup says more than its value
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            file.write_text(value)
        except OSError as error:
            # An autogroup may be changed by ordinary users ten times a second, all of them together.
            if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return before


def main() -> None:
    """Hold what the first argument names until standard input closes."""
    before: dict[Path, str] = {}
    # It ends when nobody wants it any more, and with the settings as they were.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        for name, value in json.loads(sys.argv[1]).items():
            try:
                before[Path(name)] = set_to(Path(name), value)
            except OSError as error:
                print(json.dumps({"failed": f"{name}: {error.strerror}"}), flush=True)
                return
        print(json.dumps({"held": True}), flush=True)
        sys.stdin.read()
    finally:
        for file, value in before.items():
            with contextlib.suppress(OSError):  # the engine has ended, and its group with it
                set_to(file, value)


if __name__ == "__main__":
    main()
