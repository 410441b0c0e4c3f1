"""The cells of a verdict on a terminal."""

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.cli.terminal import row


def test_a_run_that_must_not_be_trusted_is_marked_in_its_row() -> None:
    """An invalid run and one that failed its quality gate are never shown as if they were neither."""
    run = decide().runs[0]
    bad = run.model_copy(update={"validity": "INVALID", "quality_gate": "FAIL"})
    assert row(run, run.comparisons[0])[0] == run.run
    assert row(bad, run.comparisons[0])[0] == f"{run.run} INVALID quality FAIL"


def test_a_break_even_that_never_comes_has_no_figure() -> None:
    """What does not exist is a hyphen, not zero."""
    run = decide().runs[0]
    assert row(run, run.comparisons[0])[4:] == ("-", "-", "never", "-")
