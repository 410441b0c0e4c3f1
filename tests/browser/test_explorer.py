"""The page's engine is the Python engine: every number that it shows, on random assumptions, to 1e-9."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.worlds import WORLDS, make, question
from tokenhour.breakeven.report.render import build_context, fill
from tokenhour.breakeven.verdict import verdict as solve
from tokenhour.contracts.records.verdict import Verdict

pytestmark = pytest.mark.browser
Worlds = dict[str, tuple[Verdict, Path]]
EACH = 40
NEAR = {"rel_tol": 1e-9, "abs_tol": 1e-9}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Solve and render every world once; (verdict, page)."""
    made = {}
    for name in WORLDS:
        results = tmp_path_factory.mktemp("results")
        found = make(results, name)
        path = results / "page.html"
        path.write_text(page_of(found))
        made[name] = found, path
    return made


def page_of(verdict: Verdict) -> str:
    """The page without its plots, which have their own tests."""
    return fill("report.html.j2", build_context(verdict, [], []))


def draw(rng: random.Random, options: dict[str, float]) -> dict[str, Any]:
    """Draw one place of every slider."""
    purchase = rng.choice(sorted(options))
    return {
        "tokens": 10 ** rng.uniform(6, 12.5),
        "prompt": 10 ** rng.uniform(0, 5.3),
        "output": 10 ** rng.uniform(0, 4),
        "cached": rng.choice([0.0, rng.random(), 1.0]),
        "purchase": purchase,
        "gpu_usd_per_hour": options[purchase] * 10 ** rng.uniform(-1.3, 1.3),
        "headroom": rng.uniform(0.05, 1),
        "ops_usd": rng.choice([0.0, rng.uniform(0, 5000)]),
        "engineering_usd": rng.choice([0.0, rng.uniform(0, 20000)]),
        "api_multiple": 10 ** rng.uniform(-1.3, 1.3),
        "api_decay": rng.uniform(-0.5, 0.95),
    }


def differences(page: dict[str, Any], python: Verdict) -> list[tuple[str, Any, Any]]:
    """Name every figure of the page that is not Python's."""
    best = next(run for run in python.runs if run.run == python.best_run)
    pairs = [
        ("run", page["run"], python.best_run),
        ("sentence", page["sentence"], python.sentence),
        ("recommendation", page["recommendation"], python.recommendation),
        ("capacity", page["capacity"], best.capacity_tokens_per_month),
        ("output $/M", page["output_usd_per_mtok"], best.output_usd_per_mtok),
        ("utilization", page["utilization"], best.utilization_today),
        ("replicas", page["replicas"], best.replicas_today),
        ("busy", page["busy_usd"], best.cost_today.gpu_busy),
        ("total", page["own_usd"], best.cost_today.total),
    ]
    for a, c in zip(page["apis"], best.comparisons, strict=True):
        path, windows = c.projection, [(w.above, w.to) for w in c.windows]
        pairs += [
            (f"{a['name']}: $/M", a["per_mtok"], c.blended_usd_per_mtok),
            (f"{a['name']}: api", a["api_usd"], c.api_usd_per_month),
            (f"{a['name']}: own", a["own_usd"], c.self_host_usd_per_month),
            (f"{a['name']}: wins", a["wins"], c.wins_today),
            (f"{a['name']}: first", a["first"], c.first_tokens_per_month),
            (f"{a['name']}: stable", a["stable"], c.stable_tokens_per_month),
            (f"{a['name']}: outcome", a["outcome"], c.outcome),
            (f"{a['name']}: replicas", a["replicas"], c.replicas_at_breakeven),
            (f"{a['name']}: utilization there", a["utilization"], c.utilization_at_breakeven),
            (f"{a['name']}: windows", len(a["windows"]), len(windows)),
            (f"{a['name']}: last window's end", (a["windows"] or [[0, 0]])[-1][1], (windows or [(0, 0)])[-1][1]),
            *((f"{a['name']}: window", p[0], q[0]) for p, q in zip(a["windows"], windows, strict=False)),
            *((f"{a['name']}: window", p[1], q[1]) for p, q in zip(a["windows"], windows, strict=False)),
            (f"{a['name']}: base", a["hybrid"]["base"], c.hybrid.base_replicas),
            (f"{a['name']}: overflow", a["hybrid"]["overflow"], c.hybrid.overflow_share),
            (f"{a['name']}: hybrid", a["hybrid"]["usd"], c.hybrid.usd_per_month),
            (f"{a['name']}: payback", a["projection"]["payback"], path.payback_month),
            (f"{a['name']}: reverts", a["projection"]["reverts"], path.reverts_month),
        ]
        # A sum of savings may cancel: it is compared on the scale of what was added.
        scale = math.fsum(abs(m.api_usd) + abs(m.self_host_usd) for m in path.months)
        for mine, month in zip(a["projection"]["line"], path.months, strict=True):
            if abs(mine - month.cumulative_saving_usd) > 1e-9 * scale:
                pairs.append((f"{a['name']}: month {month.month}", mine, month.cumulative_saving_usd))
    return [(name, mine, theirs) for name, mine, theirs in pairs if not same(mine, theirs)]


def same(mine: Any, theirs: Any) -> bool:
    """Tell whether two figures agree to 1e-9, or two other values are equal."""
    if isinstance(theirs, int | float) and not isinstance(theirs, bool) and mine is not None:
        return math.isclose(mine, theirs, **NEAR)
    return mine == theirs


def test_there_are_at_least_two_hundred_scenarios() -> None:
    """The page is compared with Python on enough scenarios to reach its rarer cases."""
    assert EACH * len(WORLDS) >= 200


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_the_pages_numbers_are_the_engines(worlds: Worlds, open_page: Callable[..., Any], name: str) -> None:
    """Whatever the sliders say, the page shows the figures that solving in Python would give."""
    found, path = worlds[name]
    page = open_page(path)
    data = page.evaluate("JSON.parse(document.getElementById('explorer-data').textContent)")
    rng = random.Random(f"tokenhour {name}")
    states = [draw(rng, data["machine"]["prices"]) for _ in range(EACH)]
    if data["classes"]:
        for state in states:
            state |= {"prompt": data["state"]["prompt"], "output": data["state"]["output"]}
    answers = page.evaluate("states => states.map(s => ({...tokenhourAnswer(s), best: null}))", states)
    seen, wrong = set(), []
    for state, mine in zip(states, answers, strict=True):
        theirs = solve(question(found, state, data["machine"]), created_utc="", allowed_invalid=False)
        wrong += [(state, *d) for d in differences(mine, theirs)]
        seen.add(theirs.recommendation)
    assert wrong == []
    assert len(seen) >= 2, "the scenarios must not all come to the same"
    assert page.wrong == []


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_untouched_it_says_what_the_verdict_says(worlds: Worlds, open_page: Callable[..., Any], name: str) -> None:
    """Before any slider moves, the page shows the verdict that the report was made from."""
    found, path = worlds[name]
    page = open_page(path)
    assert page.locator("#x-sentence").inner_text() == found.sentence
    mine = page.evaluate("({...tokenhourAnswer({}), best: null})")
    assert differences(mine, found) == []
