"""The first page: the headline, and what would turn it."""

import pytest

from tests.breakeven.scenarios import decide
from tokenhour.breakeven.report.summary_page import Turn, headline, turns
from tokenhour.contracts.records.verdict import Flip


@pytest.mark.parametrize(
    ("recommendation", "wins", "never", "expected"),
    [
        ("self-host", 2, 0, "At 5B tokens a month one's own is cheaper than both APIs."),
        ("stay", 0, 1, "At 5B tokens a month both APIs are cheaper than one's own; against 1 of them it never pays off."),
        ("stay", 0, 2, "At 5B tokens a month both APIs are cheaper than one's own; it never pays off at any volume."),
        (
            "depends",
            1,
            1,
            "At 5B tokens a month one's own is cheaper than 1 of the 2 APIs; against 1 of them it never pays off.",
        ),
        ("hybrid", 0, 0, "At 5B tokens a month a base of one's own with overflow to the API is cheaper than either alone."),
    ],
)
def test_the_headline_says_the_verdict_without_names(recommendation: str, wins: int, never: int, expected: str) -> None:
    """The headline gives the verdict in one short sentence that counts APIs instead of naming them."""
    found = decide()
    best = found.runs[0]
    sides = [
        c.model_copy(update={"wins_today": i < wins, "outcome": "never" if i >= len(best.comparisons) - never else "stable"})
        for i, c in enumerate(best.comparisons)
    ]
    best = best.model_copy(update={"comparisons": tuple(sides)})
    said = headline(found.model_copy(update={"recommendation": recommendation}), best)
    assert said.startswith(expected)
    assert len(said) < 140


def test_what_turns_it_says_how_far_and_whether_that_is_likely() -> None:
    """Each flip states the change it needs and whether that is likely, nearest first."""
    c = decide().runs[0].comparisons[0]
    price = next(row for row in c.tornado if row.name == "api_price")
    near = Flip(name="api_price", multiple=0.8, value=0.24, unit="USD per M tokens")
    far = Flip(name="gpu_price", multiple=4.0, value=6600.0, unit="USD a month and replica")
    found = turns(c.model_copy(update={"flips": (far, near)}))
    assert found[0] == Turn("API price", "-20%, to $0.240 per M tokens", found[0].likely, inside=True)
    assert (
        found[0].likely
        == f"may well happen: within \u00d7{price.low_input:.3g} to \u00d7{price.high_input:.3g}, its P10 to P90"
    )
    assert found[1].must == "\u00d74, to $6,600 a month for each replica"
    assert found[1].likely.startswith("unlikely: outside")
