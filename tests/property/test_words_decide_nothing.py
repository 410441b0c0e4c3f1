"""Words are for people: whatever a message, a warning or an explanation says, every decision and figure stays as it is."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import DAY
from tests.breakeven.summaries import EXPERIMENT, LAG, summary
from tokenhour.breakeven.report import plots
from tokenhour.breakeven.report.exports.csv_json import to_csv, to_json
from tokenhour.breakeven.report.exports.focus import to_focus
from tokenhour.breakeven.report.render import build_context, fill
from tokenhour.breakeven.report.summary_page import facts, rows, toughest, turns, warnings
from tokenhour.breakeven.report.tables import sections
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.records.summary import Reason, Summary
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
OTHER = "undated, reworded, ended, INVALID, SLO, never, owned"
WORDS = {"sentence", "machine", "source", "profile_source", "discount_source", "note", "notes", "reason", "value", "unit"}
WORDS |= {"warnings", "extrapolated", "extrapolated_rates", "left_out", "about"}
COST_COLUMNS = re.compile(r"cost|price|quantity|x_costline|category", re.IGNORECASE)


def reworded(data: Any, words: set[str], *, inside: bool = False) -> Any:
    """Replace every text below a field of words; figures, codes and names stay."""
    if isinstance(data, dict):
        return {k: reworded(v, words, inside=k in words) for k, v in data.items()}
    if isinstance(data, list):
        return [reworded(item, words, inside=inside) for item in data]
    return f"{OTHER} {len(data)}" if inside and isinstance(data, str) else data


def decisions(data: Any, words: set[str]) -> Any:
    """Take every field of words away."""
    if isinstance(data, dict):
        return {k: decisions(v, words) for k, v in data.items() if k not in words or not _is_words(v)}
    return [decisions(item, words) for item in data] if isinstance(data, list) else data


def _is_words(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def experiment() -> Experiment:
    """Return the golden experiment with a gate, a day's profile and most of the wider questions."""
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    data["quantize"] = {"gate": {"max_mean_kl_divergence": 0.01}}
    data["economics"] |= {
        "uncertainty": {"draws": 100}, "horizon_months": 6, "profile": {"hours": DAY}, "setup_usd": 100.0,
        "levers": [{"lever": "quantization"}, {"lever": "smallest_model", "low": 0.1, "high": 0.2, "source": "a guess"}],
        "training": {"training_usd": 1e4, "requests_per_month": 1e6, "usd_per_million_requests": 500},
        "efficiency": {"unit": "answer", "value_usd_per_unit": 0.01},
        "spot": {"interruptions_per_hour": 0.02, "checkpoint_interval_h": 1, "restart_h": 0.2, "discount": 0.6},
    }  # fmt: skip
    return Experiment.model_validate(data)


def runs(results: Path, *, other: bool) -> list[Summary]:
    """Write one run of each kind that a warning speaks of; with `other`, every reason says something else."""
    lag = Reason(rule=OTHER, measured=OTHER, limit=OTHER) if other else LAG
    made = [
        summary("none", lowest_failing_rps=None),
        summary("w8a8", 1_200_000.0),
        summary("gptq-int4", 700_000.0, validity="INVALID", reasons=(lag,)),
    ]
    for one in made:
        (results / one.run).mkdir(parents=True)
        one.write(results / one.run)
    return made


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, list[Summary]]:
    """Solve the question as it is worded."""
    results = tmp_path_factory.mktemp("results")
    made = runs(results, other=False)
    return run(experiment(), results, PRICES, allow_invalid=False)[0], made


@pytest.fixture(scope="module")
def retold(solved: tuple[Verdict, list[Summary]]) -> Verdict:
    """Return the same verdict with every text of it reworded."""
    return Verdict.model_validate(reworded(solved[0].model_dump(mode="json"), WORDS))


def test_reworded_reasons_of_the_summaries_change_no_figure(solved: tuple[Verdict, list[Summary]], tmp_path: Path) -> None:
    """The verdict's figures, outcomes, recommendation and the codes of its warnings are those of the first wording."""
    runs(tmp_path, other=True)
    found = run(experiment(), tmp_path, PRICES, allow_invalid=False)[0]
    words = {"warnings", "inputs", "created_utc"}
    was, now = (decisions(v.model_dump(mode="json", exclude={"inputs"}), words) for v in (solved[0], found))
    assert was == now
    assert {"invalid", "quality_gate", "lower_bound"} <= {caution.code for caution in found.cautions}
    assert found.warnings != solved[0].warnings


def test_a_reworded_verdict_is_read_alike(solved: tuple[Verdict, list[Summary]], retold: Verdict) -> None:
    """The best run, the advice, the figures of the first page and the marks of the warnings do not move."""
    verdict = solved[0]
    assert retold.warnings != verdict.warnings
    assert retold.best
    assert verdict.best
    assert (retold.best.run, retold.recommendation) == (verdict.best.run, verdict.recommendation)
    one, other = toughest(verdict.best), toughest(retold.best)
    assert [(f.step, f.value, f.mood) for f in facts(verdict, verdict.best, one)] == [
        (f.step, f.value, f.mood) for f in facts(retold, retold.best, other)
    ]
    assert [(r.cells, r.never) for r in rows(verdict.best)] == [(r.cells, r.never) for r in rows(retold.best)]
    assert [(t.name, t.inside) for t in turns(one)] == [(t.name, t.inside) for t in turns(other)]
    assert [w[1:] for w in warnings(verdict)] == [w[1:] for w in warnings(retold)]


def test_exports_of_a_reworded_verdict_hold_the_same_figures(solved: tuple[Verdict, list[Summary]], retold: Verdict) -> None:
    """CSV, JSON and FOCUS: every column of figures and codes is equal."""
    words = {"machine", "machine_source", "api_source"}
    tables = [list(csv.DictReader(io.StringIO(to_csv(v).decode()))) for v in (solved[0], retold)]
    assert decisions(tables[0], words) == decisions(tables[1], words)
    flat = [json.loads(to_json(v)) for v in (solved[0], retold)]
    assert decisions(flat[0]["rows"], words) == decisions(flat[1]["rows"], words)
    assert flat[0]["recommendation"] == flat[1]["recommendation"]
    bills = [list(csv.DictReader(io.StringIO(to_focus(v).decode()))) for v in (solved[0], retold)]
    kept = [[{k: v for k, v in line.items() if COST_COLUMNS.search(k)} for line in bill] for bill in bills]
    assert kept[0] == kept[1]


def test_the_page_of_a_reworded_verdict_has_the_same_links_and_marks(
    solved: tuple[Verdict, list[Summary]], retold: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each figure leads to the same lines and inputs, the same warnings are red, and the same plots are drawn."""
    monkeypatch.setattr(plots, "render", lambda name, caption, _: plots.Plot(name, caption, b"", b""))
    made = solved[1]
    drawn = [[plot.name for plot in plots.all_plots(v, made)] for v in (solved[0], retold)]
    assert drawn[0] == drawn[1]
    pages = [fill("report.html.j2", build_context(v, made, plots.all_plots(v, made))) for v in (solved[0], retold)]
    # The machine's own name is an input's name too, and was reworded in one place alone.
    marks = [re.findall(r'<li class="bad">|class="n bad"|href="#d-[a-z]+"', page) for page in pages]
    assert marks[0] == marks[1]


def test_a_wider_questions_tables_are_told_by_their_code(solved: tuple[Verdict, list[Summary]]) -> None:
    """The command of a question picks its tables by the step that they belong to, not by a title or a plural."""
    found = sections(solved[0])
    assert [s.name for s in found if s.step == "levers"] == ["levers", "lever_lines"]
    for name in ("spot", "training", "efficiency"):
        assert [s.name for s in found if s.step == name] == [name]
