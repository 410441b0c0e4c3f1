"""What changes over the months ahead: growth, drifts, and the price changes that the tables know. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np

from tokenhour.breakeven.inputs import traffic
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.model.projection import PricePath, drift, month_date
from tokenhour.breakeven.model.replica_curve import Floats
from tokenhour.breakeven.prices.tables import Row, blended_usd_per_mtok, hourly_usd, in_force
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.economics import ApiChoice
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice


def path(found: Business, choice: ApiChoice, per_mtok: float) -> PricePath:
    """Gather what changes over the horizon, with the price changes that the tables know already."""
    question, spec, months = found.question, found.question.economics, found.question.economics.horizon_months
    dates = [month_date(question.on, t) for t in range(months)]
    api, notes = _api_steps(found, choice, per_mtok, dates)
    owned_spec = spec.owned
    setup = spec.setup_usd / spec.setup_months
    hourly = found.replica.usd_per_hour
    return PricePath(
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


def later(rows: Sequence[Row], question: Question) -> tuple[Row, ...]:
    """Return the rows that come into force after today and within the horizon."""
    end = month_date(question.on, question.economics.horizon_months)
    return tuple(row for row in rows if row.effective_from and question.on < row.effective_from <= end)


def api_rows(question: Question, choice: ApiChoice) -> list[ApiPrice]:
    """Return all rows of an API, whatever their date."""
    return [r for r in question.tables.apis if (r.model, r.host) == (choice.model, choice.host)]


def instance_rows(question: Question, row: InstancePrice) -> list[InstancePrice]:
    """Return all rows of a machine, whatever their date."""
    same = (row.instance, row.cloud, row.region)
    return [r for r in question.tables.instances if (r.instance, r.cloud, r.region) == same]


def _api_steps(found: Business, choice: ApiChoice, per_mtok: float, dates: Sequence[dt.date]) -> tuple[Floats, list[str]]:
    spec = found.question.economics
    rows = api_rows(found.question, choice)
    mix = traffic.mix_for(choice, spec, found.traffic)
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
    rows = instance_rows(found.question, row)
    if len(rows) == 1:
        return np.ones(len(dates))
    now = hourly_usd(row, spec.purchase, spec.rates)
    then = [in_force(rows, date) or row for date in dates]
    prices = [hourly_usd(r, spec.purchase, spec.rates) if getattr(r, spec.purchase) is not None else now for r in then]
    return np.array(prices) / now if now else np.ones(len(dates))
