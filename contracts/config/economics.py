"""The `economics` section of an experiment or scenario: what a month costs besides tokens, and what it is compared with."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tokenhour.contracts.config.economics_extras import (
    CommitmentsSpec,
    EfficiencySpec,
    FeatureSpec,
    LeverSpec,
    SpotSpec,
    TrainingSpec,
    UncertaintySpec,
)
from tokenhour.contracts.record import Count, Fraction, NotNegative, Part, Positive

Purchase = Literal["on_demand", "spot", "reserved_1y", "reserved_3y", "owned"]
AboveMinusOne = Annotated[float, Field(gt=-1)]


class ApiChoice(Part):
    """One API row to compare with, by model and host; the row is chosen by date."""

    model: str
    host: str
    tokens_ratio: Positive = 1.0
    """Tokens of this API's tokenizer for one token of the served model's."""
    cached_share: Fraction | None = None
    """Where this API's differs from the scenario's: 0 for one without a price for cache reads."""
    batch_share: Fraction | None = None
    """Where this API's differs from the scenario's: 0 for one without a batch tier."""
    provider_model: Annotated[str, Field(min_length=1)] | None = None
    """What the host itself calls the model, such as llama-3.1-8b-instant. Only `serving render gateway` needs it, and it
    knows those of the price tables that come along."""


class OwnedSpec(Part):
    """A machine of one's own: hour = [capex CRF(r, n) - residual sinking fund]/8760 + kW PUE $/kWh + colocation + upkeep."""

    name: str = "owned machine"
    capex_usd: Positive
    """Of one machine."""
    accelerators: Count = 1
    kind: Literal["cuda", "cpu"] = "cuda"
    life_years: Positive = 4.0
    residual_usd: NotNegative = 0.0
    """What it sells for at the end of its life."""
    interest_rate_per_year: AboveMinusOne = 0.08
    power_kw: Positive | None = None
    """Of one machine under load; measured where the run has energy, so leave it out there."""
    pue: Annotated[float, Field(ge=1)] = 1.3
    """Power of the whole room over that of the machine."""
    colocation_usd_per_month: NotNegative = 0.0
    maintenance_usd_per_year: NotNegative = 0.0


class ProfileSpec(Part):
    """The shape of demand: `hours` of a day or week, a `file` that `bench import-log` wrote, or an hourly `trace`."""

    hours: tuple[NotNegative, ...] | None = None
    """24 or 168 (Monday 00:00 first) weights; only their proportions count."""
    file: str | None = None
    """A traffic.json."""
    trace: str | None = None
    """A CSV with the header `tokens`, or `input_tokens,output_tokens`: a row an hour, consecutive."""

    @model_validator(mode="after")
    def _one(self) -> ProfileSpec:
        if sum(given is not None for given in (self.hours, self.file, self.trace)) != 1:
            raise ValueError("give one of hours, file and trace")
        if self.hours is not None and len(self.hours) not in {24, 168}:
            raise ValueError(f"hours has {len(self.hours)} weights; give 24 (a day) or 168 (a week)")
        if self.hours is not None and sum(self.hours) <= 0:
            raise ValueError("hours sums to zero: give at least one hour some demand")
        return self


class RequestClass(Part):
    """A kind of request; an API's context tier is that of each kind's own input."""

    share: Positive
    """Of the requests; the shares are scaled to add up to 1."""
    prompt_tokens: NotNegative
    output_tokens: NotNegative


class CurrencyRate(Part):
    """What one unit of a currency is worth, and who says so."""

    usd: Positive
    source: str
    """Such as "ECB reference rate of 2026-11-20"."""


class EconomicsSpec(Part):
    """What a month costs besides tokens. Amounts in USD a month unless the name says otherwise."""

    hardware: str = ""
    """`instance` (or `accelerator`) of a row in configs/prices/instances.yaml, such as c7i.large; unused when owned."""
    cloud: str = "aws"
    region: str | None = None
    purchase: Purchase = "on_demand"
    owned: OwnedSpec | None = None
    """With purchase: owned."""
    apis: Annotated[tuple[ApiChoice, ...], Field(min_length=1)]
    tokens_per_month: NotNegative | None = None
    """Today's volume, input plus output. 1e9 when no volume is given."""
    requests_per_month: NotNegative | None = None
    """The same as requests; give one of the two."""
    prompt_tokens: Positive | None = None
    """Mean of a request, cached tokens included; as measured when absent."""
    output_tokens: Positive | None = None
    request_classes: tuple[RequestClass, ...] = ()
    """Instead of prompt_tokens and output_tokens, where requests differ much in length."""
    cached_share: Fraction = 0.0
    """Share of input tokens that the API would bill as cache reads."""
    cache_write_share: Fraction = 0.0
    """Share of input tokens that the API would bill as cache writes."""
    batch_share: Fraction = 0.0
    """Share of requests that could go to the API's batch tier."""
    profile: ProfileSpec | None = None
    """Hours of demand; flat when absent."""
    scaling: Literal["fixed", "autoscale"] = "fixed"
    """A fleet for the peak, or one that follows the profile hour by hour."""
    headroom: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the SLO capacity that is planned for."""
    redundancy: Annotated[int, Field(ge=0)] = 0
    """Spare replicas."""
    min_replicas: Annotated[int, Field(ge=0)] = 0
    """Fewest replicas at any hour, spares included."""
    max_replicas: Count = 1000
    """Largest fleet that is thought of; a crossing beyond it is `beyond_capacity`."""
    cold_start_s: NotNegative | None = None
    """From launch to the first answer; as measured when absent."""
    ops_usd_per_month: NotNegative = 0.0
    ops_share: NotNegative = 0.0
    """Operations as a share of the machines' cost, such as 0.15; added to ops_usd_per_month."""
    engineering_usd_per_month: NotNegative = 0.0
    storage_usd_per_month: NotNegative = 0.0
    egress_usd_per_month: NotNegative = 0.0
    setup_usd: NotNegative = 0.0
    setup_months: Count = 36
    """Months over which set-up is spread."""
    electricity_usd_per_kwh: NotNegative = 0.15
    """For owned machines, and for the energy that a run measured."""
    price_ratio: Positive = 4.0
    """Price of an output over an input token, which splits a replica's cost, and the work of another mix than measured."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """What the report shows amounts in; needs a rate unless it is USD."""
    rates: dict[str, CurrencyRate] = Field(default_factory=dict)
    """USD of one unit of each currency that a price row or `currency` uses."""
    on_date: str | None = None
    """ISO date of the prices; today when absent."""
    recompute_after_days: Count = 120
    """Age of a price from which the report asks to check it again and solve anew."""
    max_price_age_days: Count = 365
    """A price that was last checked longer ago is refused."""
    discount_rate_per_year: AboveMinusOne = 0.08
    growth_per_year: AboveMinusOne = 0.0
    """Of the volume: 0.5 is half as much again after a year."""
    api_decay_per_year: Annotated[float, Field(lt=1)] = 0.0
    """Share by which API prices fall in a year, beside changes that the tables already know; negative when they rise."""
    gpu_drift_per_year: AboveMinusOne = 0.0
    """Signed change of the machine's price in a year."""
    horizon_months: Annotated[int, Field(ge=1, le=120)] = 36
    uncertainty: UncertaintySpec = UncertaintySpec()
    portfolio: tuple[FeatureSpec, ...] = ()
    levers: tuple[LeverSpec, ...] = ()
    spot: SpotSpec | None = None
    commitments: CommitmentsSpec | None = None
    training: TrainingSpec | None = None
    efficiency: EfficiencySpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> EconomicsSpec:
        self._check_machine()
        if self.tokens_per_month is not None and self.requests_per_month is not None:
            raise ValueError("gives both tokens_per_month and requests_per_month; keep one")
        if self.request_classes and (self.prompt_tokens is not None or self.output_tokens is not None):
            raise ValueError("gives request_classes and also prompt_tokens or output_tokens; keep one")
        if sum(c.share * (c.prompt_tokens + c.output_tokens) for c in self.request_classes) <= 0 < len(self.request_classes):
            raise ValueError("request_classes hold no tokens; give prompt_tokens or output_tokens")
        twice = [pair for pair, count in Counter((x.lever, x.line) for x in self.levers).items() if count > 1]
        if twice:
            raise ValueError(f"levers names {twice[0][0]} on {twice[0][1]} twice, which would count it twice; keep one")
        if self.cached_share + self.cache_write_share > 1:
            raise ValueError(
                f"cached_share {self.cached_share:g} and cache_write_share {self.cache_write_share:g} exceed the input"
            )
        return self

    def _check_machine(self) -> None:
        if (self.purchase == "owned") != (self.owned is not None):
            raise ValueError("purchase: owned and the section `owned` belong together; give both or neither")
        if self.owned is None and not self.hardware:
            raise ValueError("hardware is missing: name an instance of configs/prices/instances.yaml, or own one")
        if self.currency != "USD" and self.currency not in self.rates:
            raise ValueError(
                f"currency {self.currency} has no rate; add rates: {{{self.currency}: {{usd: ..., source: ...}}}}"
            )
        strange = [code for code in self.rates if not re.fullmatch(r"[A-Z]{3}", code)]
        if strange:
            raise ValueError(f"rates names {strange[0]!r}, which is no currency code such as EUR")
