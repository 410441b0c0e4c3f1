"""Which run a verdict is about."""

from tests.golden import file_of
from tokenhour.contracts.records.verdict import Verdict, cheapest_run


def test_a_verdict_is_about_the_run_that_it_recorded() -> None:
    """What was decided stands, even where another run is the cheaper one today."""
    found = Verdict.read(file_of(Verdict, 2))
    cheapest = cheapest_run(found.runs)
    assert cheapest is not None
    other = next(run for run in found.runs if run != cheapest)
    assert found.model_copy(update={"best_run": other.run}).best == other
    assert found.model_copy(update={"best_run": None}).best is None


def test_the_first_version_is_about_its_cheapest_run() -> None:
    """It did not record its choice, and never chose a run without a price."""
    found = Verdict.read(file_of(Verdict, 1))
    cheapest = found.best
    assert cheapest is not None
    prices = [run.output_usd_per_mtok for run in found.runs if run.output_usd_per_mtok is not None]
    assert cheapest.output_usd_per_mtok == min(prices)
    unpriced = cheapest.model_copy(update={"output_usd_per_mtok": None})
    assert cheapest_run([unpriced]) is None
    assert cheapest_run([unpriced, cheapest]) == cheapest
