"""The two ways a command ends badly, as exceptions: bad input (exit 2) and a run that failed or is INVALID (exit 1)."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Iterable


class TokenhourError(Exception):
    """An error to show to a person: what is wrong, where, and what to do about it.

    The front door prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  remedy: {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{remedy}"


class InputError(TokenhourError):
    """The user's input (file, field, value, machine) cannot be used. Nothing was started or written."""

    exit_code = 2


class RunFailedError(TokenhourError):
    """Work that had begun failed, or its measurement is INVALID."""

    exit_code = 1


class OutOfTimeError(RunFailedError):
    """Work was ended at its deadline; what it had finished is kept."""


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a "did you mean" clause for `name` out of `known`; when nothing is near `otherwise`, or the list of all."""
    names = sorted(known)
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"known: {', '.join(names)}"


def interrupted() -> int:
    """Say that Ctrl-C ended unfinished work, and return its exit code: 128 and the signal's number."""
    print("interrupted; what was finished is kept, run the same command again to go on", file=sys.stderr)
    return 128 + signal.SIGINT


def exit_code_of(main: Callable[[], object]) -> int:
    """Call a command line's main and return its exit code; our own errors become a message without a traceback."""
    try:
        main()
    except TokenhourError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return interrupted()
    except BrokenPipeError:
        return 1
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
