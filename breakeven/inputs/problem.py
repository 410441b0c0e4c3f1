"""A question with all that it needs to be answered: the runs, the demand, the prices, the day. Read once, then pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenhour.breakeven.inputs.demand import Demand
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.model.replica_curve import Rules
from tokenhour.breakeven.prices.tables import Tables, api_price, instance_price
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.config.economics_extras import FeatureSpec
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import CautionCode, CurrencyShown


@dataclass(frozen=True, slots=True)
class Note:
    """A warning: a code for programs, words for people, and the inputs that it speaks of."""

    code: CautionCode
    text: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What `solve` answers."""

    name: str
    economics: EconomicsSpec
    plants: tuple[Plant, ...]
    demand: Demand
    tables: Tables
    on: dt.date
    notes: tuple[Note, ...] = ()
    """Warnings that come with the measurements."""
    inputs: Mapping[str, str] = field(default_factory=dict)

    def instance(self) -> InstancePrice | None:
        """Return the row of the machine; None for one of one's own."""
        spec = self.economics
        if spec.purchase == "owned":
            return None
        return self.machine(spec.hardware, spec.cloud, spec.region)

    def machine(self, instance: str, cloud: str, region: str | None) -> InstancePrice:
        """Return the row of an instance, refused when it is older than the scenario's limit."""
        row = instance_price(self.tables, instance, cloud, region, self.on)
        self._refuse_old(row, f"{row.instance} at {row.cloud}", "instances.yaml")
        return row

    def api(self, model: str, host: str) -> ApiPrice:
        """Return the row of an API, refused when it is older than the scenario's limit."""
        row = api_price(self.tables, model, host, self.on)
        self._refuse_old(row, row.name, "api.yaml")
        return row

    def api_of(self, feature: FeatureSpec) -> tuple[str, str]:
        """Return model and host of a feature's API: its own, or the scenario's first."""
        first = self.economics.apis[0]
        return (feature.model, feature.host) if feature.model and feature.host else (first.model, first.host)

    def rows(self) -> list[ApiPrice | InstancePrice]:
        """Return every row in force that an answer stands on: machine, APIs, the features' APIs, what could be reserved."""
        spec, machine = self.economics, self.instance()
        apis = [(c.model, c.host) for c in spec.apis] + [self.api_of(feature) for feature in spec.portfolio]
        options = spec.commitments.options if spec.commitments else ()
        return [
            *([machine] if machine else []),
            *(self.api(*name) for name in dict.fromkeys(apis)),
            *(self.machine(o.instance, o.cloud, o.region) for o in options),
        ]

    def _refuse_old(self, row: ApiPrice | InstancePrice, name: str, file: str) -> None:
        age, limit = (self.on - row.checked_on).days, self.economics.max_price_age_days
        if age > limit:
            raise InputError(
                f"the price of {name} was last checked on {row.checked_on}, {age} days ago; the limit is {limit}",
                where=f"{self.tables.folder / file}: checked_on",
                remedy="check it and append a row, or raise economics.max_price_age_days",
            )

    def rules(self, plant: Plant) -> Rules:
        """Return what the fleet keeps to; the cold start is the measured one unless the scenario says another."""
        spec = self.economics
        measured = plant.origin.cold_start_s if plant.origin else None
        cold = spec.cold_start_s if spec.cold_start_s is not None else measured or 0.0
        return Rules(spec.redundancy, spec.min_replicas, spec.max_replicas, spec.scaling == "autoscale", cold)

    def currency(self) -> CurrencyShown | None:
        """Return what amounts are shown in beside USD."""
        code = self.economics.currency
        if code == "USD":
            return None
        rate = self.economics.rates[code]
        return CurrencyShown(code=code, usd_per_unit=rate.usd, source=rate.source)
