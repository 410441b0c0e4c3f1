"""Every figure of the report has its origin beside it: a line of the derivation, an input with its source, or a record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.origins import dangling, orphans, parse
from tests.breakeven.scenarios import decide, scenario
from tests.breakeven.summaries import EXPERIMENT, LAG, write_all
from tests.breakeven.test_extras import EVERYTHING
from tokenhour.breakeven.report.render import build_context, fill
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.scenario import load_scenario
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
CAPTION = "Latency at p99 of 3 probes."


def page(verdict: Verdict, summaries: Sequence[Summary] = (), plots: Sequence[Any] = ()) -> str:
    """Render the HTML report of a verdict, with a caption for each run."""
    return fill("report.html.j2", build_context(verdict, summaries, plots, [(s.run, CAPTION, "data:,") for s in summaries]))


def measured(results: Path, **changes: Any) -> tuple[Verdict, list[Summary]]:
    """Solve three measured runs with most optional inputs set."""
    made = write_all(results, **changes)
    economics = {"growth_per_year": 0.4, "api_decay_per_year": 0.2, "setup_usd": 300, "redundancy": 1, **WIDER}
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    data["economics"] |= economics
    asked = type(EXPERIMENT).model_validate(data)
    return run(asked, results, PRICES, allow_invalid="reasons" in changes)[0], made


WIDER = {
    "currency": "EUR",
    "rates": {"EUR": {"usd": 1.16, "source": "a bank"}},
    "efficiency": {"unit": "answer", "value_usd_per_unit": 0.02},
    "levers": [{"lever": "quantization"}, {"lever": "caching", "low": 0.1, "high": 0.2, "source": "a guess"}],
}


@pytest.mark.parametrize("changes", [{}, {"validity": "INVALID", "reasons": (LAG,), "synthetic": ("3 dummy layers",)}])
def test_every_figure_of_a_measured_report_has_its_origin(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Readers can check every figure of a measured report, because its source stands beside it."""
    verdict, summaries = measured(tmp_path, **changes)
    root = parse(page(verdict, summaries))
    seen, found = orphans(root)
    assert found == []
    assert seen > 150
    assert dangling(root) == []


@pytest.mark.parametrize("solved", ["everything", "team"])
def test_every_figure_of_the_wider_answers_has_its_origin(solved: str) -> None:
    """The optional sections also name the source of every figure, so none has to be believed."""
    asked = scenario(**EVERYTHING) if solved == "everything" else load_scenario(Path("configs/scenarios/team.yaml"))
    root = parse(page(decide(asked)))
    seen, found = orphans(root)
    assert found == []
    assert seen > 150
    assert dangling(root) == []


def test_every_row_of_a_further_section_names_its_inputs() -> None:
    """Each row of an optional section links to the inputs it was computed from."""
    html = parse(page(decide(scenario(**EVERYTHING))))
    rows = [cell.parent for cell in html.all("td") if cell.attributes.get("class") == "from"]
    assert len(rows) > 20
    assert all([*row.all("a")] for row in rows), "each row has a link of its own, not only its column"


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


def test_prices_of_the_inputs_carry_their_source_and_date() -> None:
    """The inputs table shows where each price was quoted and when it was last checked."""
    found = {a.name: a for a in decide(load_scenario(Path("configs/scenarios/team.yaml"))).assumptions}
    quoted = [a for a in found.values() if a.badge == "quoted"]
    assert {"gpt-4o-mini at openai", "claude-haiku-4-5 at anthropic", "verda H100_1x, on_demand"} <= {a.name for a in quoted}
    reserved = found["nebius H100_1x, reserved_1y"]
    assert (reserved.badge, reserved.value) == ("assumed", "1.95 an hour reserved, 2.95 by the hour (USD)")
    assert all("checked 20" in a.source for a in (*quoted, reserved))


def test_features_levers_spot_and_training_are_inputs_with_their_badge() -> None:
    """Inputs of the optional questions are listed in words, each marked as quoted or assumed."""
    found = {a.name: a for a in decide(load_scenario(Path("configs/scenarios/team.yaml"))).assumptions}
    voice = found["feature voice"]
    assert (
        voice.value == "1M requests a month of 300 input and 60 output tokens; else gpt-4o-mini at openai; p99 TTFT 0.15 s"
    )
    assert (found["spot on gpu"].badge, found["quantization on gpu"].badge) == ("quoted", "assumed")
    assert found["quantization on gpu"].value == "saves 21.0% to 25.0% of it"
    assert "0.05 interruptions an hour" in found["interruptible machines"].value
    assert found["training and use"].value.startswith("$20,000 at first, $8,000 more each 6 months; 30M requests")
