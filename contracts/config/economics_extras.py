"""The wider cost questions that an `economics` section may ask: each part is absent unless it is asked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.record import Count, Fraction, NotNegative, Part, Positive

BELOW_ONE = Annotated[float, Field(ge=0, lt=1)]
CostLine = Literal["gpu", "ops", "engineering", "storage", "egress", "setup"]
LeverName = Literal["autoscaling", "quantization", "spot", "smallest_model", "caching", "idle_gpus", "commitments"]


class Spread(Part):
    """The 10th and the 90th percentile of an input, as multiples of its value."""

    p10: Positive
    p90: Positive

    @model_validator(mode="after")
    def _around_one(self) -> Spread:
        if not self.p10 <= 1 <= self.p90:
            raise ValueError(f"p10 {self.p10:g} and p90 {self.p90:g} must lie on either side of 1")
        return self


class UncertaintySpec(Part):
    """How far each input may be off. A two-piece log-normal with the input as its median."""

    draws: Annotated[int, Field(ge=100, le=2_000_000)] = 2000
    seed: int = 0
    capacity: Spread | None = None
    """The measured 95 % interval when absent; of an assumed capacity 0.7 and 1.3."""
    gpu_price: Spread = Spread(p10=0.85, p90=1.25)
    api_price: Spread = Spread(p10=0.7, p90=1.05)
    volume: Spread = Spread(p10=0.6, p90=1.5)
    ops: Spread = Spread(p10=0.7, p90=1.5)
    """Of operations and engineering together."""
    growth: Spread = Spread(p10=0.8, p90=1.3)
    """Of 1 + growth_per_year; moves the projection only."""


class FeatureSpec(Part):
    """A feature of a team's portfolio: what it asks for, and which API it would use."""

    name: str
    requests_per_month: NotNegative
    prompt_tokens: NotNegative
    output_tokens: NotNegative
    model: str | None = None
    """Its API; the first of `apis` when absent."""
    host: str | None = None
    cached_share: Fraction = 0.0
    batch_share: Fraction = 0.0
    hours: tuple[NotNegative, ...] | None = None
    """24 or 168 weights; flat when absent."""
    slo: SloSpec | None = None
    """Stricter than what was measured: it stays with the API."""
    self_hostable: bool = True
    """False where the served model does not meet the feature's quality bar."""

    @model_validator(mode="after")
    def _consistent(self) -> FeatureSpec:
        if self.prompt_tokens + self.output_tokens <= 0:
            raise ValueError("has no tokens; give prompt_tokens or output_tokens")
        if (self.model is None) != (self.host is None):
            raise ValueError("model and host belong together; give both or neither")
        if self.hours is not None and (len(self.hours) not in {24, 168} or sum(self.hours) <= 0):
            raise ValueError("hours must be 24 or 168 weights that do not sum to zero")
        return self


class LeverSpec(Part):
    """A saving on one cost line. What the harness measured, or the price tables say, replaces the range."""

    lever: LeverName
    line: CostLine = "gpu"
    low: BELOW_ONE | None = None
    """Share of the line that is saved, at least and at most; needed where nothing measures the lever."""
    high: BELOW_ONE | None = None
    source: str = ""
    """Where the range comes from."""
    record: str | None = None
    """For idle_gpus: an idle.json that `serving` wrote, or its folder; the one beside the measured run when absent."""

    @model_validator(mode="after")
    def _ordered(self) -> LeverSpec:
        if self.record is not None and (self.lever, self.line) != ("idle_gpus", "gpu"):
            raise ValueError(
                f"record belongs to lever idle_gpus on line gpu, not to {self.lever} on {self.line}; take it out"
            )
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high belong together; give both or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self


class SpotSpec(Part):
    """Interruptible machines: a batch job that checkpoints, and a service with a fallback."""

    interruptions_per_hour: NotNegative
    checkpoint_interval_h: Positive
    restart_h: NotNegative
    checkpoint_cost_h: NotNegative = 0.0
    discount: BELOW_ONE | None = None
    """Off the on-demand price; from the instance's row when absent."""
    unavailable_share: BELOW_ONE = 0.1
    """Share of time in which a spot replica is not there, for serving."""
    fallback_share: Fraction = 0.1
    """Share of serving time that on-demand replicas stand in."""


class CommitmentOption(Part):
    """Machines that could be reserved: an instance of the table, by the same replica as the scenario's."""

    instance: str
    cloud: str
    region: str | None = None
    term: Literal["reserved_1y", "reserved_3y"] = "reserved_1y"
    reserved_usd_per_hour: NotNegative | None = None
    """A quote of your own for the instance, where the table has none."""
    replicas_per_instance: Positive | None = None
    """What it carries, in replicas of the measured machine; its accelerators over the measured ones when absent."""
    max_reserved: Count | None = None
    """Replicas that may be reserved there; no limit when absent."""
    max_on_demand: Count | None = None


class CommitmentsSpec(Part):
    """How much to reserve against a distribution of demand, over several clouds as one portfolio."""

    options: Annotated[tuple[CommitmentOption, ...], Field(min_length=1)]
    replicas: tuple[NotNegative, ...] | None = None
    """Samples of the replicas that are needed; those of the scenario's profile when absent."""


class TrainingSpec(Part):
    """A model of one's own: what training costs, and what its use costs."""

    training_usd: Positive
    retrain_every_months: Count | None = None
    retrain_usd: NotNegative = 0.0
    requests_per_month: Positive
    usd_per_million_requests: Positive
    growth_per_month: Annotated[float, Field(gt=-1)] = 0.0


class EfficiencySpec(Part):
    """Value for money, with the unit of value named."""

    unit: str
    """Such as "resolved ticket" or "answer"."""
    value_usd_per_unit: Positive
    units_per_request: Positive = 1.0
