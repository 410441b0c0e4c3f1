"""A line that says what is going on, on a terminal and elsewhere."""

import io

import pytest

from tokenhour.machine.progress import Status


class Terminal(io.StringIO):
    """A stream that rewrites lines."""

    def isatty(self) -> bool:
        """Say that it is a terminal."""
        return True


def untimed(stream: io.StringIO) -> list[str]:
    """Return the lines without the time that they took."""
    return [line.partition("  [")[0] for line in stream.getvalue().splitlines()]


def test_where_no_terminal_is_there_are_whole_lines_at_the_beginning_and_the_end() -> None:
    """A log gets no control characters, and the last line says what was reached."""
    stream = io.StringIO()
    with Status("loading", stream) as status:
        status.update("all of it")
    assert untimed(stream) == ["   loading", "   loading: all of it"]


def test_a_block_that_failed_has_no_line_that_looks_done() -> None:
    """The error is what comes next."""
    stream = io.StringIO()
    with pytest.raises(KeyError), Status("loading", stream):
        raise KeyError
    assert untimed(stream) == ["   loading"]


def test_on_a_terminal_one_line_is_rewritten_and_only_the_last_stays() -> None:
    """Each writing begins by erasing what stands there, and the line ends once."""
    stream = Terminal()
    with Status("loading", stream) as status:
        status.update("all of it")
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().rpartition("\r\033[K")[2].startswith("   loading: all of it")
