"""The wider questions of a scenario, each answered on the best run and only when it is asked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from breakeven.business import Business
from breakeven.lever_answers import lever_plan
from breakeven.machine_answers import commitment_plan, spot_plan
from breakeven.portfolio_answer import portfolio
from breakeven.question import Question
from breakeven.training import crossover
from contracts.answer import (
    TrainingCrossover,
)
from contracts.economics_spec import EconomicsSpec
from contracts.verdict import RunVerdict


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
