"""From a question to its verdict: every run priced, every API compared. Pure."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from breakeven import cost, owned, steps, today, uncertainty, wider, words
from breakeven.efficiency import efficiency
from breakeven.fleet import Curve, Floats
from breakeven.hybrid import optimum
from breakeven.origin import Capacity, Plant, capacity
from breakeven.position import Position
from breakeven.prices import Row, blended_usd_per_mtok, hourly_usd, in_force
from breakeven.projection import Path, drift, month_date, project
from breakeven.question import Question
from contracts.economics_spec import ApiChoice
from contracts.price import ApiPrice, InstancePrice
from contracts.record import Interval
from contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK
from contracts.verdict import Comparison, Fleet, Hybrid, RunVerdict, TrafficToday, Verdict, Window


@dataclass(frozen=True, slots=True)
class Business:
    """One run with everything that its comparisons share."""

    question: Question
    plant: Plant
    row: InstancePrice | None
    replica: cost.Replica
    traffic: TrafficToday
    capacity: Capacity
    curve: Curve
    ends: Mapping[str, tuple[float, float]]
    drawn: Mapping[str, Floats]

    @property
    def u(self) -> float:
        """Today's volume in capacities of a replica."""
        return self.traffic.tokens_per_month / self.capacity.tokens.value

    def position(self, api_usd_per_token: float) -> Position:
        """Return the run beside an API's price."""
        spec = self.question.economics
        people = spec.ops_usd_per_month + spec.engineering_usd_per_month
        return Position(
            curve=self.curve,
            machine_usd=self.replica.usd_per_hour * HOURS_PER_MONTH,
            ops_share=spec.ops_share,
            ops_usd=people,
            other_usd=cost.fixed_usd(spec) - people,
            replica_tokens=self.capacity.tokens.value,
            api_usd_per_token=api_usd_per_token,
            tokens=self.traffic.tokens_per_month,
        )


def verdict(question: Question, *, created_utc: str, allowed_invalid: bool) -> Verdict:
    """Solve every run against every API, and the wider questions on the best run."""
    spec = question.economics
    row = question.instance()
    prices = {(c.model, c.host): question.api(c.model, c.host) for c in spec.apis}
    businesses = {plant.run: business(question, plant, row) for plant in question.plants}
    runs = tuple(run_verdict(question, plant, row, businesses[plant.run], prices) for plant in question.plants)
    checked = [p.checked_on for p in (row, *prices.values()) if p is not None]
    best = words.best_run(runs)
    main = businesses[best.run] if best else None
    traffic = today.traffic(spec, question.demand, main.plant if main else question.plants[0])
    said = words.recommendation(runs)
    return Verdict(
        experiment=question.name,
        on_date=question.on,
        sentence=words.sentence(runs, traffic),
        tokens_per_month=traffic.tokens_per_month,
        price_ratio=spec.price_ratio,
        runs=runs,
        assumptions=tuple(words.assumptions(question, runs, traffic)),
        warnings=tuple(words.warnings(question, runs, checked)),
        allowed_invalid=allowed_invalid,
        recompute_by=min(checked) + dt.timedelta(days=spec.recompute_after_days),
        inputs=dict(question.inputs),
        created_utc=created_utc,
        recommendation=said,
        best_run=best.run if best else None,
        economics=spec,
        traffic=traffic,
        currency=question.currency(),
        **(wider.answers(question, main, runs, best) if main and best else {}),
        training=wider.training(spec),
    )


def business(question: Question, plant: Plant, row: InstancePrice | None) -> Business | None:
    """Work out what a run's comparisons share; None when no tested rate met the SLO."""
    replica = replica_of(question, plant, row)
    if plant.origin is None:
        return None
    spec = question.economics
    traffic = today.traffic(spec, question.demand, plant)
    found = capacity(plant.origin, spec, traffic.prompt_tokens, traffic.output_tokens)
    curve = Curve(question.rules(plant), question.demand.array())
    ends = uncertainty.spreads(spec, found.tokens, plant.origin.badge)
    drawn = uncertainty.draw(ends, spec.uncertainty.draws, spec.uncertainty.seed)
    return Business(question, plant, row, replica, traffic, found, curve, ends, drawn)


def replica_of(question: Question, plant: Plant, row: InstancePrice | None) -> cost.Replica:
    """Return what one replica costs, rented or owned."""
    spec = question.economics
    if row is not None:
        return cost.rented(hourly_usd(row, spec.purchase, spec.rates), row, plant)
    if spec.owned is None:
        raise AssertionError
    return cost.bought(spec.owned, spec.electricity_usd_per_kwh, plant)


def run_verdict(
    question: Question,
    plant: Plant,
    row: InstancePrice | None,
    found: Business | None,
    prices: Mapping[tuple[str, str], ApiPrice],
) -> RunVerdict:
    """Price one run and compare it with each API."""
    spec = question.economics
    replica = found.replica if found else replica_of(question, plant, row)
    name = f"{row.cloud} {row.instance}" if row else (spec.owned.name if spec.owned else "")
    common: dict[str, Any] = {
        "run": plant.run,
        "scheme": plant.scheme,
        "validity": plant.validity,
        "instance": row,
        "replica_usd_per_hour": replica.usd_per_hour,
        "machine": f"{name}, {spec.purchase}",
        "origin": plant.origin,
        "later_instances": _later(_instance_rows(question, row), question) if row else (),
        "capital_usd": replica.capital_usd,
        "cash_usd_per_hour": replica.cash_usd_per_hour,
    }
    if found is None:
        nothing = dict.fromkeys(NO_CAPACITY)
        share = plant.prompt_tokens / (plant.prompt_tokens + plant.output_tokens or 1.0)
        return RunVerdict(**common, **nothing, input_share=share, comparisons=())
    comparisons = tuple(compare(found, choice, prices[choice.model, choice.host]) for choice in spec.apis)
    return RunVerdict(**common, **_figures(found), comparisons=comparisons)


NO_CAPACITY = (
    "capacity_tokens_per_month",
    "capacity_interval",
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "allocation_usd_per_mtok",
    "usage_usd_per_mtok",
    "replicas_today",
    "utilization_today",
    "cost_today",
)


def _figures(found: Business) -> dict[str, Any]:
    """Return the figures of a run that do not depend on an API."""
    spec, traffic, hourly = found.question.economics, found.traffic, found.replica.usd_per_hour
    bill = cost.lines(spec, found.curve, hourly, found.u)
    mtok = traffic.tokens_per_month / TOKENS_PER_MTOK
    into = found.capacity.input_share
    weighted = mtok * (into / spec.price_ratio + 1 - into)
    in_usd, out_usd = cost.token_cost(hourly, found.capacity.output_tps, found.capacity.input_tps, spec.price_ratio)
    energy = found.plant.origin.energy_j_per_output_token if found.plant.origin else None
    return {
        "capacity_tokens_per_month": found.capacity.tokens.value,
        "capacity_interval": found.capacity.tokens,
        "input_share": into,
        "input_usd_per_mtok": in_usd,
        "output_usd_per_mtok": out_usd,
        "allocation_usd_per_mtok": bill.total / mtok if mtok else None,
        "allocation_output_usd_per_mtok": bill.total / weighted if mtok else None,
        "allocation_input_usd_per_mtok": bill.total / weighted / spec.price_ratio if mtok else None,
        "usage_usd_per_mtok": bill.gpu_busy / mtok if mtok else None,
        "replicas_today": math.ceil(found.u * found.curve.peak),
        "utilization_today": utilization(found.curve, found.u),
        "cost_today": bill,
        "extrapolated": found.capacity.extrapolated,
        "fleet": _fleet(found.curve, found.u),
        "energy_usd_per_mtok_output": (
            owned.energy_usd_per_mtok(energy, spec.electricity_usd_per_kwh) if energy is not None else None
        ),
    }


def _fleet(curve: Curve, u: float) -> Fleet:
    rules, hours = curve.rules, curve.hourly(u)
    return Fleet(
        scaling="autoscale" if rules.autoscale else "fixed",
        peak_to_mean=curve.peak,
        redundancy=rules.redundancy,
        min_replicas=rules.min_replicas,
        max_replicas=rules.max_replicas,
        cold_start_s=rules.cold_start_s,
        hourly_replicas_today=tuple(int(n) for n in hours),
        scale_ups_per_month=curve.starts(u) * HOURS_PER_MONTH / len(curve.weights) if rules.autoscale else 0.0,
    )


def utilization(curve: Curve, u: float) -> float | None:
    """Return tokens over the planned capacity of the replicas that serve them, spares not counted."""
    serving = float(np.maximum(curve.hourly(u) - curve.rules.redundancy, 0.0).mean())
    return u / serving if serving and u > 0 else None


def compare(found: Business, choice: ApiChoice, price: ApiPrice) -> Comparison:
    """Find the crossings of one run with one API, and how sure they are."""
    spec, traffic = found.question.economics, found.traffic
    per_mtok = blended_usd_per_mtok(price, today.mix_for(choice, spec, traffic), choice.tokens_ratio, spec.rates)
    at = found.position(per_mtok / TOKENS_PER_MTOK)
    crossed = steps.solve(found.curve, at.replica_usd, at.replica_tokens, at.fixed_usd, at.api_usd_per_token)
    first = crossed.first_tokens
    api_usd, own_usd = at.api_usd_per_token * at.tokens, at.self_host_usd(at.tokens)
    # A window begins just above its edge.
    u_first = float(np.nextafter(first / at.replica_tokens, np.inf)) if first is not None else None
    serving = crossed.first_replicas if first is not None else None
    usage = found.replica.usd_per_hour * HOURS_PER_MONTH / at.replica_tokens * TOKENS_PER_MTOK
    return Comparison(
        price=price,
        blended_usd_per_mtok=per_mtok,
        api_usd_per_month=api_usd,
        self_host_usd_per_month=own_usd,
        saving_usd_per_month=api_usd - own_usd,
        windows=tuple(Window(above=a, to=b) for a, b in crossed.windows),
        first_tokens_per_month=first,
        first_interval=_first_interval(found, at, first),
        stable_tokens_per_month=crossed.stable_tokens,
        outcome=crossed.outcome,
        replicas_at_breakeven=serving,
        utilization_at_breakeven=_utilization_at(found.curve, u_first, serving),
        cost_at_breakeven=(
            cost.lines(spec, found.curve, found.replica.usd_per_hour, u_first) if u_first is not None else None
        ),
        wins_today=own_usd < api_usd,
        hybrid=_hybrid(at, api_usd),
        competitive_utilization=cost.competitive_utilization(usage, per_mtok),
        monte_carlo=uncertainty.monte_carlo(at, found.drawn, spec.uncertainty.seed),
        tornado=uncertainty.tornado(at, found.ends),
        flips=uncertainty.flips(at, crossed.windows),
        projection=project(at, _path(found, choice, per_mtok), found.drawn),
        efficiency=efficiency(spec.efficiency, traffic.requests_per_month, api_usd, own_usd) if spec.efficiency else None,
        later_prices=_later(_api_rows(found.question, choice), found.question),
    )


def _later(rows: Sequence[Row], question: Question) -> tuple[Row, ...]:
    """Return the rows that come into force after today and within the horizon."""
    end = month_date(question.on, question.economics.horizon_months)
    return tuple(row for row in rows if row.effective_from and question.on < row.effective_from <= end)


def _api_rows(question: Question, choice: ApiChoice) -> list[ApiPrice]:
    return [r for r in question.tables.apis if (r.model, r.host) == (choice.model, choice.host)]


def _instance_rows(question: Question, row: InstancePrice) -> list[InstancePrice]:
    same = (row.instance, row.cloud, row.region)
    return [r for r in question.tables.instances if (r.instance, r.cloud, r.region) == same]


def _utilization_at(curve: Curve, u: float | None, serving: int | None) -> float | None:
    if u is None or not serving:
        return None
    return utilization(curve, u) if curve.rules.autoscale else u / serving


def _hybrid(at: Position, api_usd: float) -> Hybrid:
    rules = at.curve.rules
    u = at.tokens / at.replica_tokens
    best = optimum(
        at.curve.weights,
        u,
        at.replica_usd,
        at.fixed_usd,
        api_usd,
        redundancy=rules.redundancy,
        max_replicas=rules.max_replicas,
    )
    return Hybrid(
        base_replicas=best.base,
        overflow_share=best.overflow_share,
        usd_per_month=best.usd,
        own_usd_per_month=best.own_usd,
        api_usd_per_month=best.api_usd,
    )


def _first_interval(found: Business, at: Position, first: float | None) -> Interval | None:
    """Solve again with capacity at the ends of its interval; an end where it never happens is left open (None)."""
    if first is None:
        return None
    ends = []
    for tokens in (found.capacity.tokens.high, found.capacity.tokens.low):
        again = steps.solve(found.curve, at.replica_usd, tokens, at.fixed_usd, at.api_usd_per_token) if tokens else None
        ends.append(again.first_tokens if again else None)
    return Interval(value=first, low=ends[0], high=ends[1])


def _path(found: Business, choice: ApiChoice, per_mtok: float) -> Path:
    """Gather what changes over the horizon, with the price changes that the tables know already."""
    question, spec, months = found.question, found.question.economics, found.question.economics.horizon_months
    dates = [month_date(question.on, t) for t in range(months)]
    api, notes = _api_steps(found, choice, per_mtok, dates)
    owned_spec = spec.owned
    setup = spec.setup_usd / spec.setup_months
    hourly = found.replica.usd_per_hour
    return Path(
        growth_per_year=spec.growth_per_year,
        discount_rate_per_year=spec.discount_rate_per_year,
        api_factor=api * drift(-spec.api_decay_per_year, months),
        gpu_factor=_gpu_steps(found, dates) * drift(spec.gpu_drift_per_year, months),
        setup_usd=spec.setup_usd,
        amortised_setup_usd=setup,
        capital_usd=found.replica.capital_usd if owned_spec else 0.0,
        cash_share=found.replica.cash_usd_per_hour / hourly if hourly else 1.0,
        notes=tuple(notes),
    )


def _api_steps(found: Business, choice: ApiChoice, per_mtok: float, dates: Sequence[dt.date]) -> tuple[Floats, list[str]]:
    spec = found.question.economics
    rows = _api_rows(found.question, choice)
    mix = today.mix_for(choice, spec, found.traffic)
    factors, notes, known = [], [], {}
    last = in_force(rows, dates[0])
    for date in dates:
        row = in_force(rows, date)
        if row is None or (row.deprecated_on and row.deprecated_on <= date):
            said = f"{choice.model} at {choice.host} ends on {row.deprecated_on if row else date}; its last price is held"
            notes += [said] if said not in notes else []
            row = last
        if row is not None and id(row) not in known:
            known[id(row)] = blended_usd_per_mtok(row, mix, choice.tokens_ratio, spec.rates) / per_mtok if per_mtok else 1.0
            if row is not last:
                notes.append(f"{choice.model} at {choice.host} changes its price on {row.effective_from}")
        factors.append(known[id(row)])
        last = row
    return np.array(factors), notes


def _gpu_steps(found: Business, dates: Sequence[dt.date]) -> Floats:
    row, spec = found.row, found.question.economics
    if row is None:
        return np.ones(len(dates))
    rows = _instance_rows(found.question, row)
    if len(rows) == 1:
        return np.ones(len(dates))
    now = hourly_usd(row, spec.purchase, spec.rates)
    then = [in_force(rows, date) or row for date in dates]
    prices = [hourly_usd(r, spec.purchase, spec.rates) if getattr(r, spec.purchase) is not None else now for r in then]
    return np.array(prices) / now if now else np.ones(len(dates))
