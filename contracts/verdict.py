"""The verdict: what each run costs beside each API, with every crossing of the two.

History
    1  first version
"""

from __future__ import annotations

import datetime as dt
from typing import ClassVar, Literal

from contracts.price import ApiPrice, InstancePrice
from contracts.record import Interval, Part, Record

Outcome = Literal["stable", "first", "never", "beyond_capacity"]


class Assumption(Part):
    """An input of the verdict and where it comes from."""

    name: str
    value: str
    badge: Literal["measured", "quoted", "assumed"]
    source: str


class CostLines(Part):
    """A month of self-hosting, USD."""

    gpu_busy: float
    gpu_idle: float
    redundancy: float
    ops: float
    engineering: float
    storage: float
    egress: float
    setup: float
    total: float


class Window(Part):
    """A range of token volumes a month in which self-hosting is cheaper; `to` is None when it never ends."""

    above: float
    to: float | None


class Hybrid(Part):
    """The cheapest mixture at today's volume: base replicas, the rest to the API."""

    base_replicas: int
    overflow_share: float
    usd_per_month: float


class Comparison(Part):
    """One run beside one API."""

    price: ApiPrice
    """The row that was used, as it stands in the table."""
    blended_usd_per_mtok: float
    """At the measured mix of input and output tokens."""
    api_usd_per_month: float
    """At today's volume."""
    self_host_usd_per_month: float
    windows: tuple[Window, ...]
    """All ranges where self-hosting wins, disjoint and in order (at most 50 are listed; the last is open-ended)."""
    first_tokens_per_month: float | None
    first_interval: Interval | None
    """The first crossing when capacity lies at the ends of its measured interval."""
    stable_tokens_per_month: float | None
    outcome: Outcome
    """`stable`: from the first crossing on it wins for good. `first`: it wins in windows before it wins for good. `never`: a
    full replica costs more than the same tokens by API. `beyond_capacity`: the first crossing needs more replicas than
    `economics.max_replicas`."""
    replicas_at_breakeven: int | None
    utilization_at_breakeven: float | None
    """Tokens at the first crossing over the planned capacity of the replicas that serve them."""
    wins_today: bool
    hybrid: Hybrid


class RunVerdict(Part):
    """One run (model, precision, engine, machine) as a business."""

    run: str
    scheme: str
    validity: Literal["VALID", "INVALID"]
    instance: InstancePrice
    replica_usd_per_hour: float
    capacity_tokens_per_month: float | None
    """Input plus output of one replica: measured at the SLO x headroom x 730 h. None when no rate met the SLO."""
    capacity_interval: Interval | None
    input_share: float
    """Of the tokens, as measured."""
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    """At planned load: $/s / (T_in / r + T_out), input = output / r, r the price ratio."""
    allocation_usd_per_mtok: float | None
    """Cost of what is allocated today over today's tokens, input and output together."""
    usage_usd_per_mtok: float | None
    """The same if only busy time were paid."""
    replicas_today: int | None
    utilization_today: float | None
    cost_today: CostLines | None
    comparisons: tuple[Comparison, ...]


class Verdict(Record):
    """The answer, with everything that it stands on."""

    file_name: ClassVar[str] = "verdict.json"
    record: Literal["verdict"] = "verdict"
    version: Literal[1] = 1
    experiment: str
    on_date: dt.date
    sentence: str
    tokens_per_month: float
    price_ratio: float
    """Output over input price that splits a replica's cost; assumed."""
    runs: tuple[RunVerdict, ...]
    assumptions: tuple[Assumption, ...]
    warnings: tuple[str, ...]
    allowed_invalid: bool
    recompute_by: dt.date
    """When the oldest price that was used passes its age limit."""
    inputs: dict[str, str]
    created_utc: str
