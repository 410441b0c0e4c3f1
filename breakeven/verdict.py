"""From a question to its verdict: every run against every API, and the wider questions on the best run. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from tokenhour.breakeven import extras
from tokenhour.breakeven.inputs import traffic as today
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.solve.assumptions import assumptions, warnings
from tokenhour.breakeven.solve.recommendation import recommendation, sentence
from tokenhour.breakeven.solve.run_context import business
from tokenhour.breakeven.solve.run_verdict import run_verdict
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.records.verdict import Caution, RunVerdict, Verdict, cheapest_run


def verdict(question: Question, *, created_utc: str, allowed_invalid: bool) -> Verdict:
    """Solve every run against every API, and the wider questions on the best run."""
    spec = question.economics
    row = question.instance()
    prices = {(c.model, c.host): question.api(c.model, c.host) for c in spec.apis}
    businesses = {plant.run: business(question, plant, row) for plant in question.plants}
    runs = tuple(run_verdict(question, plant, row, businesses[plant.run], prices) for plant in question.plants)
    checked = [p.checked_on for p in (*question.rows(), *_ahead(runs))]
    best = cheapest_run(runs)
    main = businesses[best.run] if best else None
    traffic = today.traffic(spec, question.demand, main.plant if main else question.plants[0])
    answers = extras.answers(question, main, runs, best) if main and best else {}
    warned = tuple(warnings(question, runs, checked))
    return Verdict(
        experiment=question.name,
        on_date=question.on,
        sentence=sentence(best, traffic, spec),
        tokens_per_month=traffic.tokens_per_month,
        price_ratio=spec.price_ratio,
        runs=runs,
        assumptions=assumptions(question, runs, best, traffic, answers),
        warnings=tuple(note.text for note in warned),
        allowed_invalid=allowed_invalid,
        recompute_by=min(checked) + dt.timedelta(days=spec.recompute_after_days),
        inputs=dict(question.inputs),
        created_utc=created_utc,
        recommendation=recommendation(best),
        best_run=best.run if best else None,
        economics=spec,
        traffic=traffic,
        currency=question.currency(),
        **answers,
        training=extras.training(spec),
        cautions=tuple(Caution(code=note.code, inputs=note.inputs) for note in warned),
    )


def _ahead(runs: Sequence[RunVerdict]) -> list[ApiPrice | InstancePrice]:
    """Return the rows that come into force within the horizon: the projection stands on them."""
    apis = [row for run in runs for c in run.comparisons for row in c.later_prices]
    return [*apis, *(row for run in runs for row in run.later_instances)]
