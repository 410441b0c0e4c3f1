"""Dated, sourced prices. Tables append: a changed price is a new row with a later `effective_from`.

History
    1  first version
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokenhour.contracts.record import Part

Usd = Annotated[Decimal, Field(ge=0)]
Share = Annotated[Decimal, Field(ge=0, le=1)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class BatchFactors(Part):
    """What the batch tier multiplies each price by; a class that is absent has no batch price."""

    input: Share | None = None
    output: Share | None = None
    cache_read: Share | None = None
    cache_write: Share | None = None


class ContextTier(Part):
    """Prices of a request whose input is *above* this many tokens."""

    above_input_tokens: Annotated[int, Field(ge=1)]
    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None


class ApiPrice(Part):
    """One API model at one host: per million tokens, in `currency`."""

    model: str
    host: str
    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None
    batch: BatchFactors = BatchFactors()
    context_tiers: tuple[ContextTier, ...] = ()
    currency: Currency = "USD"
    """ISO 4217; another than USD needs a rate in the scenario."""
    effective_from: dt.date | None = None
    """First day of this price; absent where the source does not say, which `source` then states."""
    checked_on: dt.date
    """Day on which somebody read the source."""
    source: str
    source_url: str
    deprecated_on: dt.date | None = None
    """First day on which it can no longer be called."""

    @property
    def name(self) -> str:
        """Return what it is called among the inputs of a verdict: gpt-4o-mini at openai."""
        return f"{self.model} at {self.host}"

    @property
    def title(self) -> str:
        """Return what it is called in a report: gpt-4o-mini (openai)."""
        return f"{self.model} ({self.host})"

    @property
    def origin(self) -> str:
        """Return who says so and since when."""
        return f"{self.source}, checked {self.checked_on}, {self.source_url}"

    @model_validator(mode="after")
    def _dated(self) -> ApiPrice:
        if self.effective_from is None and "undated" not in self.source:
            raise ValueError("effective_from is absent, so `source` must say that the source is undated")
        return self


class InstancePrice(Part):
    """One cloud machine: USD an hour for the whole instance."""

    instance: str
    cloud: str
    region: str
    accelerator: str
    """GPU name such as H100, or the CPU platform for a CPU instance."""
    kind: Literal["cuda", "cpu"]
    accelerators: Annotated[int, Field(ge=1)]
    """GPUs in the instance; 1 for a CPU instance (the host is the accelerator)."""
    vcpus: int | None = None
    memory_gib: Decimal | None = None
    on_demand: Usd | None = None
    spot: Usd | None = None
    reserved_1y: Usd | None = None
    reserved_3y: Usd | None = None
    currency: Currency = "USD"
    effective_from: dt.date | None = None
    checked_on: dt.date
    source: str
    source_url: str

    @property
    def name(self) -> str:
        """Return what it is called: aws c7i.large."""
        return f"{self.cloud} {self.instance}"

    @property
    def origin(self) -> str:
        """Return who says so and since when."""
        return f"{self.source}, checked {self.checked_on}, {self.source_url}"

    @model_validator(mode="after")
    def _priced(self) -> InstancePrice:
        if all(price is None for price in (self.on_demand, self.spot, self.reserved_1y, self.reserved_3y)):
            raise ValueError("has no price; give on_demand, spot, reserved_1y or reserved_3y")
        if self.effective_from is None and "undated" not in self.source:
            raise ValueError("effective_from is absent, so `source` must say that the source is undated")
        return self


class ApiPriceTable(Part):
    """configs/prices/api.yaml."""

    record: Literal["api-prices"] = "api-prices"
    version: Literal[1] = 1
    prices: tuple[ApiPrice, ...]


class InstancePriceTable(Part):
    """configs/prices/instances.yaml."""

    record: Literal["instance-prices"] = "instance-prices"
    version: Literal[1] = 1
    prices: tuple[InstancePrice, ...]
