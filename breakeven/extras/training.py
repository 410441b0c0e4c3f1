"""When using a model has cost more than training it. Pure."""

from __future__ import annotations

from tokenhour.contracts.config.economics_extras import TrainingSpec
from tokenhour.contracts.records.verdict_extras import TrainingCrossover, TrainingMonth

SHOWN = (1, 3, 6, 12, 18, 24, 36)
LOOKED_AT = 120


def inference_share(training: float, inference: float) -> float:
    """Return the share of cumulative spend that is inference."""
    return inference / (training + inference)


def training_usd(spec: TrainingSpec, month: int) -> float:
    """Return what training has cost by the end of a month (from 1): at the start, and again every `retrain_every_months`."""
    again = (month - 1) // spec.retrain_every_months if spec.retrain_every_months else 0
    return spec.training_usd + again * spec.retrain_usd


def inference_usd(spec: TrainingSpec, month: int) -> float:
    """Return what inference has cost by the end of a month: N c [(1+g)^m - 1]/g, N c m without growth."""
    first = spec.requests_per_month * spec.usd_per_million_requests / 1e6
    growth = spec.growth_per_month
    if abs(growth) < 1e-9:
        return first * month
    return first * ((1 + growth) ** month - 1) / growth


def crossover(spec: TrainingSpec) -> TrainingCrossover:
    """Find the first month whose cumulative inference exceeds cumulative training."""
    found = next((m for m in range(1, LOOKED_AT + 1) if inference_usd(spec, m) > training_usd(spec, m)), None)
    shown = sorted({*SHOWN, *([found] if found else [])})
    months = []
    for m in shown:
        spent, used = training_usd(spec, m), inference_usd(spec, m)
        months.append(
            TrainingMonth(month=m, training_usd=spent, inference_usd=used, inference_share=inference_share(spent, used))
        )
    return TrainingCrossover(months=tuple(months), crossover_month=found)
