"""Laws that every verdict keeps, whatever its scenario."""

import math
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.breakeven.scenarios import DAY, PRICES, decide, scenario
from tokenhour.breakeven.prices.tables import Tables, load_tables
from tokenhour.contracts.records.verdict import Comparison

TABLES = load_tables(PRICES)
SCENARIOS = st.fixed_dictionaries(
    {
        "tokens_per_month": st.floats(1e8, 1e11),
        "scaling": st.sampled_from(["fixed", "autoscale"]),
        "profile": st.sampled_from([None, {"hours": DAY}]),
        "redundancy": st.integers(0, 2),
        "min_replicas": st.integers(0, 4),
        "headroom": st.floats(0.3, 1.0),
        "ops_share": st.floats(0, 0.3),
        "ops_usd_per_month": st.floats(0, 5000),
        "engineering_usd_per_month": st.floats(0, 5000),
        "setup_usd": st.floats(0, 50_000),
        "max_replicas": st.just(200),
    }
)
MONEY = ("ops_usd_per_month", "engineering_usd_per_month", "setup_usd")


def scaled(api: float = 1.0, machine: float = 1.0) -> Tables:
    """Return the tables with API and machine prices multiplied."""
    fields = ("input", "output", "cache_read", "cache_write")
    apis = [
        row.model_copy(update={name: float(getattr(row, name)) * api for name in fields if getattr(row, name) is not None})
        for row in TABLES.apis
    ]
    machines = [
        row.model_copy(update={"on_demand": float(row.on_demand) * machine}) for row in TABLES.instances if row.on_demand
    ]
    return Tables(tuple(apis), tuple(machines), TABLES.folder)


def solved(economics: dict[str, Any], tables: Tables = TABLES) -> tuple[Comparison, ...]:
    """Return the comparisons of a scenario, solved with few draws and a short horizon."""
    light = {"uncertainty": {"draws": 100}, "horizon_months": 1}
    return decide(scenario(**{**economics, **light}), tables).runs[0].comparisons


def close(a: float | None, b: float | None, capacity_edges: float = 1e-6) -> bool:
    """Tell whether two volumes agree, or both are absent."""
    return (a is None and b is None) or (a is not None and b is not None and math.isclose(a, b, rel_tol=capacity_edges))


@settings(max_examples=25, deadline=None)
@given(SCENARIOS, st.sampled_from([0.01, 0.5, 2.0, 1024.0]))
def test_scaling_all_money_leaves_break_even_volumes_where_they_are(economics: dict[str, Any], k: float) -> None:
    """Multiplying every price leaves the verdict and its volumes as they are, so currency does not matter."""
    more = {**economics, **{name: economics[name] * k for name in MONEY}}
    for one, other in zip(solved(economics), solved(more, scaled(k, k)), strict=True):
        assert one.outcome == other.outcome
        assert close(one.first_tokens_per_month, other.first_tokens_per_month)
        assert close(one.stable_tokens_per_month, other.stable_tokens_per_month)
        assume(abs(one.saving_usd_per_month) > 1e-6 * one.api_usd_per_month)
        assert one.wins_today == other.wins_today


@settings(max_examples=25, deadline=None)
@given(SCENARIOS, st.floats(1.0, 5.0))
def test_a_dearer_api_never_speaks_against_self_hosting(economics: dict[str, Any], dearer: float) -> None:
    """A higher API price only ever favors self-hosting: larger saving, earlier break-even."""
    for one, other in zip(solved(economics), solved(economics, scaled(api=dearer)), strict=True):
        assert other.saving_usd_per_month >= one.saving_usd_per_month - 1e-6
        assert other.wins_today or not one.wins_today
        first, later = (c.first_tokens_per_month or math.inf for c in (one, other))
        assert later <= first * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(SCENARIOS, st.floats(1.0, 5.0))
def test_a_dearer_machine_never_speaks_for_self_hosting(economics: dict[str, Any], dearer: float) -> None:
    """A higher machine price only ever favors the API: smaller saving, later break-even."""
    for one, other in zip(solved(economics), solved(economics, scaled(machine=dearer)), strict=True):
        assert other.saving_usd_per_month <= one.saving_usd_per_month + 1e-6
        assert one.wins_today or not other.wins_today
        first, later = (c.first_tokens_per_month or math.inf for c in (one, other))
        assert later >= first * (1 - 1e-9)


@settings(max_examples=25, deadline=None)
@given(SCENARIOS, st.sampled_from(MONEY), st.floats(0, 20_000))
def test_a_dearer_team_never_speaks_for_self_hosting(economics: dict[str, Any], name: str, more: float) -> None:
    """Higher staff or set-up costs never make self-hosting look better."""
    dearer = {**economics, name: economics[name] + more}
    for one, other in zip(solved(economics), solved(dearer), strict=True):
        assert other.saving_usd_per_month <= one.saving_usd_per_month + 1e-6
        assert one.wins_today or not other.wins_today


@settings(max_examples=25, deadline=None)
@given(SCENARIOS)
def test_windows_are_disjoint_and_ordered_and_hold_today_when_it_wins(economics: dict[str, Any]) -> None:
    """Today's volume lies in a winning range exactly when the verdict says self-hosting is cheaper."""
    for c in solved(economics):
        edges = [edge for w in c.windows for edge in (w.above, w.to) if edge is not None]
        assert edges == sorted(edges)
        assert all(w.to is None or w.above < w.to for w in c.windows)
        assert all(w.to is not None for w in c.windows[:-1])
        today = economics["tokens_per_month"]
        assume(len(c.windows) < 50 and abs(c.saving_usd_per_month) > 1e-6 * c.api_usd_per_month)
        inside = any(w.above < today and (w.to is None or today <= w.to) for w in c.windows)
        beyond = c.windows and c.windows[-1].to is not None and today > c.windows[-1].to
        assert inside == c.wins_today or beyond or (not c.windows and c.outcome == "beyond_capacity")


@settings(max_examples=25, deadline=None)
@given(SCENARIOS)
def test_the_hybrid_is_never_dearer_than_the_api_and_no_volume_costs_only_what_is_fixed(economics: dict[str, Any]) -> None:
    """The hybrid never costs more than the API alone; a volume of zero leaves only standing costs."""
    for c in solved(economics):
        assert c.hybrid.usd_per_month <= c.api_usd_per_month * (1 + 1e-12)
    nothing = decide(scenario(**{**economics, "tokens_per_month": 0.0})).runs[0]
    bill = nothing.cost_today
    standing = max(economics["redundancy"], economics["min_replicas"]) * 2.29 * 730
    assert bill.gpu_busy == 0
    assert math.isclose(bill.gpu_idle + bill.redundancy, standing, abs_tol=1e-6)
    assert nothing.allocation_usd_per_mtok is None
    assert all(not c.wins_today for c in nothing.comparisons)
