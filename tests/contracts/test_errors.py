"""An error says what, where and the remedy; every way to end has its exit code."""

import pytest

from tokenhour.contracts.errors import InputError, OutOfTimeError, RunFailedError, exit_code_of, nearest


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no"), 2),
        (RunFailedError("no"), 1),
        (OutOfTimeError("no"), 1),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 1),
        (SystemExit(3), 3),
        (SystemExit("a word"), 1),
        (SystemExit(), 0),
    ],
)
def test_every_way_to_end_has_its_exit_code(error: BaseException, code: int) -> None:
    """Scripts tell bad input from failed work, and Ctrl-C from both, by the exit code alone."""

    def main() -> None:
        raise error

    assert exit_code_of(main) == code
    assert exit_code_of(lambda: None) == 0


def test_a_mistake_in_the_code_is_not_taken_for_an_error_of_ours() -> None:
    """A defect keeps its traceback instead of becoming a message without one."""
    with pytest.raises(ZeroDivisionError):
        exit_code_of(lambda: 1 // 0)


def test_an_error_is_shown_with_its_place_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the place first and the remedy on a line of its own."""

    def main() -> None:
        raise InputError("no such file", where="x.yaml", remedy="check the path")

    exit_code_of(main)
    assert capsys.readouterr().err == "error: x.yaml: no such file\n  remedy: check the path\n"


@pytest.mark.parametrize(
    ("name", "otherwise", "said"),
    [
        ("w8a9", "", "did you mean w8a8?"),
        ("w8a9", "see the table", "did you mean w8a8?"),
        ("zzz", "see the table", "see the table"),
        ("zzz", "", "known: none, w8a8"),
    ],
)
def test_what_is_near_is_offered_and_else_all_that_is_known(name: str, otherwise: str, said: str) -> None:
    """A typo is answered with the likeliest name, anything else with what there is."""
    assert nearest(name, ("w8a8", "none"), otherwise) == said
