"""The `bench` section of an experiment: the load and the latency objective."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from contracts.numbers import Count, Fraction, NotNegative, Positive
from contracts.record import Part


class LengthSpec(Part):
    """Token lengths of prompts or outputs: `fixed`, `uniform` or `lognormal`, cut to [min, max]."""

    distribution: Literal["fixed", "uniform", "lognormal"] = "fixed"
    mean_tokens: Positive
    """The value itself for `fixed`; the mean before cutting for the others."""
    cv: NotNegative = 0.0
    """Coefficient of variation of `lognormal`."""
    min_tokens: Count = 1
    max_tokens: Count = 1_000_000

    @model_validator(mode="after")
    def _ordered(self) -> LengthSpec:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        if self.distribution != "fixed" and not self.min_tokens <= self.mean_tokens <= self.max_tokens:
            raise ValueError("mean_tokens is outside [min_tokens, max_tokens]")
        return self


class WorkloadSpec(Part):
    """What is asked of the server."""

    name: str = "chat"
    prompt: LengthSpec
    output: LengthSpec
    seed: int = 0
    """Chooses lengths, text and arrival times; a salt a run keeps a repeated seed out of the prefix cache."""
    declared_prefix_hit_rate: Fraction = 0.0
    """Share of prompt tokens that may come from the prefix cache; a measured rate above it is INVALID."""


class SloSpec(Part):
    """The latency objective, judged from the *scheduled* arrival. At least one bound is given."""

    percentile: Annotated[float, Field(ge=50, le=99.9)] = 90.0
    ttft_s: Positive | None = None
    """Time to first token."""
    tpot_s: Positive | None = None
    """Time per output token after the first."""
    e2e_s: Positive | None = None
    """Whole request."""

    @model_validator(mode="after")
    def _bounded(self) -> SloSpec:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("has no bound; give ttft_s, tpot_s or e2e_s")
        return self


class SearchSpec(Part):
    """How the SLO capacity is looked for."""

    saturation_s: Positive = 20.0
    """Length of the closed-loop probe that measures the peak."""
    probe_s: Positive = 20.0
    """Shortest steady window of one rate."""
    warmup_s: NotNegative = 3.0
    """Lead-in of each probe, kept apart from the statistics."""
    max_probes: Annotated[int, Field(ge=2)] = 6
    """Most open-loop rates tried."""
    max_probe_s: Positive = 60.0
    """Longest window; a rate too low to give the percentile its samples in it is not estimable."""
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Stop when the lowest failing rate is within this share of the highest passing one."""


class BenchSpec(Part):
    """The load and the objective."""

    workload: WorkloadSpec
    slo: SloSpec
    search: SearchSpec = SearchSpec()
    timeout_s: Positive = 120.0
    """Whole request."""
    inactivity_timeout_s: Positive = 30.0
    """Between two chunks."""
    telemetry_hz: Annotated[float, Field(gt=0, le=100)] = 10.0
