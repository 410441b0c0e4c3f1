"""The wider questions of a scenario, each answered on the best run and only when it is asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenhour.breakeven.extras.levers import lever_plan
from tokenhour.breakeven.extras.portfolio import portfolio
from tokenhour.breakeven.extras.purchasing import commitment_plan, spot_plan
from tokenhour.breakeven.extras.training import crossover
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.solve.run_context import Business
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.records.verdict import RunVerdict
from tokenhour.contracts.records.verdict_extras import TrainingCrossover


def answers(question: Question, main: Business, runs: Sequence[RunVerdict], best: RunVerdict) -> dict[str, Any]:
    """Answer what is asked, as fields of the verdict."""
    spec = question.economics
    return {
        "portfolio": portfolio(question, main) if spec.portfolio else None,
        "levers": lever_plan(question, main, runs, best) if spec.levers else None,
        "spot": spot_plan(main, spec.spot) if spec.spot else None,
        "commitments": commitment_plan(main) if spec.commitments else None,
    }


def training(spec: EconomicsSpec) -> TrainingCrossover | None:
    """Answer the training question; it needs no measurement."""
    return crossover(spec.training) if spec.training else None
