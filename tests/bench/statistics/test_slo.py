"""The objective is judged in one place: of a request, of a number of them, of a percentile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.rows import row
from tokenhour.bench.statistics import metrics
from tokenhour.bench.statistics.slo import may_miss, meets, misses, slo_reasons, worst_misses
from tokenhour.contracts.config.bench import SloSpec

TIGHT = SloSpec(percentile=90, ttft_s=0.2, tpot_s=0.02, e2e_s=1.0)


@pytest.mark.parametrize(
    ("about", "missed"),
    [
        ({}, (False, False, False)),
        ({"ttft": 0.3}, (True, False, False)),
        ({"lag": 0.15}, (True, False, False)),
        ({"gap": 0.03}, (False, True, False)),
        ({"tokens": 1, "gap": 9.0}, (False, False, False)),
        ({"gap": 0.3}, (False, True, True)),
        ({"outcome": "timeout"}, (True, True, True)),
    ],
)
def test_a_request_meets_the_objective_where_it_misses_no_bound(about: dict[str, float], missed: tuple[bool, ...]) -> None:
    """Waiting counts, an undefined TPOT does not, and a failure misses all."""
    assert misses(row(**about), TIGHT) == missed
    assert meets(row(**about), TIGHT) is not any(missed)


def test_a_failed_request_never_meets_even_an_objective_that_it_could_not_miss() -> None:
    """It misses only the bounds that there are."""
    assert misses(row(outcome="timeout"), SloSpec(percentile=90, e2e_s=9.0)) == (False, False, True)
    assert not meets(row(outcome="timeout"), SloSpec(percentile=90, e2e_s=9.0))


@given(st.lists(st.floats(0.01, 1.0), min_size=64, max_size=150), st.integers(0, 20))
def test_a_percentile_meets_its_bound_exactly_where_few_enough_requests_miss_it(ttfts: list[float], failures: int) -> None:
    """The verdict of a whole window and the certainty that ends a probe early are the same objective."""
    slo = SloSpec(percentile=90, ttft_s=0.5)
    rows = [row(float(k), ttft=value) for k, value in enumerate(ttfts)]
    rows += [row(1000.0 + k, outcome="timeout") for k in range(failures)]
    met, _ = slo_reasons(metrics.latencies(rows), slo)
    assert met is (worst_misses(rows, slo) <= may_miss(len(rows), 90))


def test_the_slo_is_judged_on_every_bound_and_needs_samples() -> None:
    """Bound by bound; below the samples that a percentile wants there is no verdict."""
    rows = [row(k * 0.1, ttft=0.5) for k in range(100)]
    found = metrics.latencies(rows)
    assert slo_reasons(found, SloSpec(percentile=90, ttft_s=1)) == (True, ())
    met, why = slo_reasons(found, SloSpec(percentile=90, ttft_s=0.4))
    assert met is False
    assert "p90 TTFT 0.5 s is above 0.4 s" in why[0]
    assert slo_reasons(metrics.latencies(rows[:63]), SloSpec(percentile=90, ttft_s=1))[0] is None
