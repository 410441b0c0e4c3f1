"""Every figure of the report has its origin beside it: a line of the derivation, an input with its source, or a record."""

from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.origins import dangling, orphans, page, parse
from tests.breakeven.summaries import EXPERIMENT, LAG, write_all
from tokenhour.breakeven.stage import run
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
WIDER = {
    "currency": "EUR",
    "rates": {"EUR": {"usd": 1.16, "source": "a bank"}},
    "efficiency": {"unit": "answer", "value_usd_per_unit": 0.02},
    "levers": [{"lever": "quantization"}, {"lever": "caching", "low": 0.1, "high": 0.2, "source": "a guess"}],
}


def measured(results: Path, **changes: Any) -> tuple[Verdict, list[Summary]]:
    """Solve three measured runs with most optional inputs set."""
    made = write_all(results, **changes)
    economics = {"growth_per_year": 0.4, "api_decay_per_year": 0.2, "setup_usd": 300, "redundancy": 1, **WIDER}
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    data["economics"] |= economics
    asked = type(EXPERIMENT).model_validate(data)
    return run(asked, results, PRICES, allow_invalid="reasons" in changes)[0], made


@pytest.mark.parametrize("changes", [{}, {"validity": "INVALID", "reasons": (LAG,), "synthetic": ("3 dummy layers",)}])
def test_every_figure_of_a_measured_report_has_its_origin(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Readers can check every figure of a measured report, because its source stands beside it."""
    verdict, summaries = measured(tmp_path, **changes)
    root = parse(page(verdict, summaries))
    seen, found = orphans(root)
    assert found == []
    assert seen > 150
    assert dangling(root) == []


@pytest.mark.parametrize(
    "orphan",
    [
        "<table><tbody><tr><th>what</th><td>$3</td></tr></tbody></table>",
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><th>what</th><td>$3</td></tr></tbody></table>",
        "<p>It costs $3.</p>",
        "<dl><div><dt>cost</dt><dd>$3</dd></div></dl>",
        '<ul><li>$3, see <a href="#inputs">somewhere</a></li></ul>',
        "<figure><figcaption>A bar of $3.</figcaption></figure>",
    ],
)
def test_a_figure_without_an_origin_is_found(orphan: str) -> None:
    """The walk above can fail."""
    _, found = orphans(parse(orphan))
    assert len(found) == 1


def test_a_link_that_leads_nowhere_is_found() -> None:
    """The check of the report's links reports a link without a target."""
    assert dangling(parse('<p id="a"><a href="#a">x</a><a href="#b">y</a></p>')) == ["#b"]
