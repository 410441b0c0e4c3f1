"""The `economics` section of an experiment: what a month costs besides tokens, and what it is compared with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contracts.numbers import Count, Fraction, NotNegative, Positive
from contracts.record import Part


class ApiChoice(Part):
    """One API row to compare with, by model and host; the row is chosen by date."""

    model: str
    host: str
    tokens_ratio: Positive = 1.0
    """Tokens of this API's tokenizer for one token of the served model's."""


class EconomicsSpec(Part):
    """What a month costs besides tokens. Amounts in USD a month unless the name says otherwise."""

    hardware: str
    """`instance` of a row in configs/prices/instances.yaml, such as c7i.large."""
    cloud: str = "aws"
    region: str | None = None
    purchase: Literal["on_demand", "spot", "reserved_1y", "reserved_3y"] = "on_demand"
    apis: Annotated[tuple[ApiChoice, ...], Field(min_length=1)]
    tokens_per_month: Positive = 1e9
    """Today's volume, input plus output, for the sentence "at your volume"."""
    headroom: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the SLO capacity that is planned for."""
    redundancy: Annotated[int, Field(ge=0)] = 0
    """Spare replicas."""
    max_replicas: Count = 1000
    """Largest fleet that is thought of; a crossing beyond it is `beyond_capacity`."""
    ops_usd_per_month: NotNegative = 0.0
    engineering_usd_per_month: NotNegative = 0.0
    storage_usd_per_month: NotNegative = 0.0
    egress_usd_per_month: NotNegative = 0.0
    setup_usd: NotNegative = 0.0
    setup_months: Count = 36
    """Months over which set-up is spread."""
    batch_share: Fraction = 0.0
    """Share of requests that could go to the API's batch tier."""
    cached_share: Fraction = 0.0
    """Share of input tokens that the API would bill as cache reads."""
    on_date: str | None = None
    """ISO date of the prices; today when absent."""
    max_price_age_days: Count = 120
    """Older prices are flagged in the report."""
