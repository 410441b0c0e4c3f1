"""Which past verdicts would flip at today's prices: each is solved again from its own record with other rows. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.prices.tables import Tables
from tokenhour.breakeven.solve import from_verdict
from tokenhour.breakeven.verdict import verdict
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Comparison, TrafficToday, Verdict


@dataclass(frozen=True, slots=True)
class Recheck:
    """One comparison of a past verdict, then and now. `problem` says why there is no now."""

    experiment: str
    solved_on: dt.date
    run: str
    api: str
    won: bool
    wins: bool | None
    first_then: float | None
    first_now: float | None
    problem: str = ""

    @property
    def flips(self) -> bool:
        """Tell whether the cheaper side at that volume has changed."""
        return self.wins is not None and self.wins != self.won


def recheck(past: Verdict, tables: Tables, on: dt.date) -> Iterator[Recheck]:
    """Solve a past verdict at the prices of `on`, one comparison at a time: a price that is gone hides no other."""
    for run in past.runs:
        for was in run.comparisons:
            now, problem = _again(past, run.run, was, tables, on)
            yield Recheck(
                past.experiment,
                past.on_date,
                run.run,
                was.price.name,
                was.wins_today,
                now.wins_today if now else None,
                was.first_tokens_per_month,
                now.first_tokens_per_month if now else None,
                problem,
            )


def _again(past: Verdict, run: str, was: Comparison, tables: Tables, on: dt.date) -> tuple[Comparison | None, str]:
    if past.economics is None or past.traffic is None:
        return None, "of version 1, which does not keep all inputs: solve it again"
    spec = _frozen(past.economics, past.traffic, was)
    try:
        plants = [p for p in from_verdict.plants(past) if p.run == run]
        asked = Question(past.experiment, spec, tuple(plants), from_verdict.demand(past), tables, on)
        found = verdict(asked, created_utc="", allowed_invalid=past.allowed_invalid)
    except InputError as error:
        return None, str(error).replace("\n", " ")
    return found.runs[0].comparisons[0], ""


def _frozen(spec: EconomicsSpec, traffic: TrafficToday, was: Comparison) -> EconomicsSpec:
    """Keep one API, and fix the volume and the mix that an own log had given; little is drawn, since only prices matter."""
    choice = next(c for c in spec.apis if (c.model, c.host) == (was.price.model, was.price.host))
    mix = {} if spec.request_classes else {"prompt_tokens": traffic.prompt_tokens, "output_tokens": traffic.output_tokens}
    measured = traffic.mix_badge == "measured" and spec.profile is None
    changes = {
        "apis": (choice,),
        "profile": None,
        "tokens_per_month": traffic.tokens_per_month,
        "requests_per_month": None,
        "cached_share": traffic.cached_share,
        **({} if measured else mix),
        "uncertainty": spec.uncertainty.model_copy(update={"draws": 100}),
        "horizon_months": 1,
        "portfolio": (),
        "levers": (),
        "spot": None,
        "commitments": None,
    }
    return spec.model_copy(update=changes)
