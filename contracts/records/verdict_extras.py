"""Answers to the wider cost questions, as parts of the verdict; each stands only when the scenario asks."""

from __future__ import annotations

from typing import Literal

from tokenhour.contracts.record import Part


class Placement(Part):
    """Where one feature of a portfolio belongs."""

    name: str
    side: Literal["self-host", "api"]
    api: str
    """Such as "gpt-4o-mini at openai"."""
    api_usd_per_month: float
    replicas: float
    """Mean share of replicas that it would use; 0.25 is a quarter of one."""
    reason: str


class Portfolio(Part):
    """Which side each feature belongs on, replicas shared and counted once."""

    run: str
    placements: tuple[Placement, ...]
    replicas: int
    """Serving the features of one's own, spares included."""
    utilization: float | None
    self_host_usd_per_month: float
    api_usd_per_month: float
    total_usd_per_month: float
    all_api_usd_per_month: float
    all_self_host_usd_per_month: float | None
    """None when some feature cannot be moved."""
    exact: bool
    """Every placement was tried; otherwise see the bound."""
    lower_bound_usd_per_month: float
    """No placement can be cheaper."""


class LeverFigure(Part):
    """One saving on one line."""

    lever: str
    line: str
    low: float
    high: float
    badge: Literal["measured", "quoted", "assumed"]
    source: str


class LeverLine(Part):
    """A cost line with its weight in the bill and the savings that multiply on it."""

    line: str
    weight: float
    low: float
    high: float
    """Compounded: 1 - prod(1 - s)."""


class LeverPlan(Part):
    """The levers compounded: S = 1 - sum_l w_l prod_k (1 - s_lk)."""

    run: str
    figures: tuple[LeverFigure, ...]
    lines: tuple[LeverLine, ...]
    low: float
    high: float
    bill_usd_per_month: float
    left_out: tuple[str, ...] = ()
    """Levers without a measurement, a price or a range."""


class SpotPlan(Part):
    """Whether interruptible machines pay."""

    discount: float
    discount_source: str
    overhead: float
    """lambda (tau/2 + R) + delta/tau; at 1 or more no work gets done."""
    best_interval_h: float | None
    """sqrt(2 delta / lambda), where checkpoints cost something and interruptions happen."""
    best_overhead: float | None
    price_ratio: float | None
    """Cost of work done against on-demand: (1 - d)/(1 - overhead). None when no work gets done."""
    batch_viable: bool
    serving_replicas: int
    """Spot replicas for today's fleet: ceil(n / (1 - u))."""
    on_demand_replicas: int
    """Today's fleet without spot."""
    serving_usd_per_month: float
    on_demand_usd_per_month: float
    serving_saved_share: float
    serving_viable: bool
    note: str


class Reservation(Part):
    """How many replicas of one option to reserve, and how many on average are bought by the hour."""

    instance: str
    cloud: str
    term: str
    replicas_per_instance: float
    reserved_replicas: int
    on_demand_replicas_mean: float
    reserved_usd_per_hour: float | None
    """Of one replica."""
    on_demand_usd_per_hour: float | None
    usd_per_month: float


class CommitmentPlan(Part):
    """The cheapest split between reserved and hourly machines over all clouds."""

    reservations: tuple[Reservation, ...]
    usd_per_month: float
    all_on_demand_usd_per_month: float | None
    """None where the on-demand limits do not carry the peak."""
    saved_share: float | None
    break_even_utilization: tuple[float, ...]
    """Of each option: reserved over on-demand price; a replica that is needed less of the time is not worth reserving."""
    demand_mean_replicas: float
    demand_peak_replicas: float


class TrainingMonth(Part):
    """Cumulative spend at the end of a month."""

    month: int
    training_usd: float
    inference_usd: float
    inference_share: float


class TrainingCrossover(Part):
    """When the use of a model has cost more than its training."""

    months: tuple[TrainingMonth, ...]
    crossover_month: int | None
    """First month whose cumulative inference exceeds cumulative training; None within 120 months."""


class Efficiency(Part):
    """Value over spend at today's volume."""

    unit: str
    units_per_month: float
    value_usd_per_month: float
    api_ratio: float | None
    self_host_ratio: float | None
    api_usd_per_unit: float | None
    self_host_usd_per_unit: float | None
