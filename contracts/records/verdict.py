"""The verdict: what each run costs beside each API, with every crossing of the two, how sure that is, and what flips it.

History
    2  `instance` may be absent (owned machines); adds where capacity and traffic come from, the economics that were used,
       the fleet, energy, Monte Carlo, tornado, flips, projection, and the wider questions. Version 1 is read as it stands:
       what it lacks is absent. Later, without a new version: `cautions`.
    1  first version
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import ClassVar, Literal

from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.record import Interval, Part, Record
from tokenhour.contracts.records.verdict_extras import (
    CommitmentPlan,
    Efficiency,
    LeverPlan,
    Portfolio,
    SpotPlan,
    TrainingCrossover,
)

Outcome = Literal["stable", "first", "never", "beyond_capacity"]
Badge = Literal["measured", "quoted", "assumed"]
Recommendation = Literal["stay", "hybrid", "self-host", "depends", "none"]
CautionCode = Literal[
    "quality_parity", "api_latency", "invalid", "quality_gate", "measurement", "lower_bound", "synthetic",
    "assumed_capacity", "extrapolated", "extrapolated_rate", "slow_wake", "old_price", "price_change",
]  # fmt: skip


class Assumption(Part):
    """An input of the verdict and where it comes from."""

    name: str
    value: str
    badge: Badge
    source: str


class Caution(Part):
    """What a warning is about, in no words."""

    code: CautionCode
    inputs: tuple[str, ...] = ()
    """Names of the assumptions that it speaks of."""


class CostLines(Part):
    """A month of self-hosting, USD."""

    gpu_busy: float
    """Of the tokens served: the volume over the planned capacity, at the price of a replica."""
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
    """The cheapest mixture at today's volume: base replicas, the rest to the API, hour by hour."""

    base_replicas: int
    """Serving replicas; the spares come on top."""
    overflow_share: float
    usd_per_month: float
    own_usd_per_month: float | None = None
    api_usd_per_month: float | None = None


class Quantiles(Part):
    """10th, 50th and 90th percentile; None where that share of the draws never gets there."""

    p10: float | None
    p50: float | None
    p90: float | None


class MonteCarlo(Part):
    """All uncertain inputs drawn at once."""

    draws: int
    seed: int
    win_probability: float
    """That self-hosting is cheaper at today's volume (drawn as well)."""
    never_probability: float
    """That there is no break-even within the largest fleet."""
    first_tokens_per_month: Quantiles
    saving_usd_per_month: Quantiles
    """API less self-hosting."""
    histogram_edges_tokens: tuple[float, ...] = ()
    """Of the first break-even, log-spaced; one more than the counts."""
    histogram_counts: tuple[int, ...] = ()


class TornadoRow(Part):
    """One input at its 10th and 90th percentile, all others at their value."""

    name: str
    """`api_price`, `gpu_price`, `capacity`, `volume` or `ops`."""
    low_input: float
    """Multiples of the input's value."""
    high_input: float
    low_saving_usd_per_month: float
    """API less self-hosting at today's volume, with the input at its low end."""
    high_saving_usd_per_month: float
    low_first_tokens_per_month: float | None
    high_first_tokens_per_month: float | None
    flips: bool
    """The saving has another sign at one of the ends."""


class Flip(Part):
    """How far one input must move, alone, to turn the verdict at today's volume."""

    name: str
    multiple: float
    """Of its value; 1.1 is a tenth more."""
    value: float
    unit: str


class MonthPoint(Part):
    """One month of the projection; cumulative figures are discounted and count set-up and capital as spent at once."""

    month: int
    """1 is the first."""
    tokens: float
    api_usd: float
    self_host_usd: float
    replicas: float
    """Mean over the month's hours."""
    cumulative_saving_usd: float
    cumulative_p10_usd: float | None = None
    cumulative_p50_usd: float | None = None
    cumulative_p90_usd: float | None = None


class Projection(Part):
    """The months ahead, with volume growth, price drifts and the price changes that the tables know."""

    months: tuple[MonthPoint, ...]
    payback_month: int | None
    """First month whose cumulative saving covers set-up and capital; None within the horizon."""
    reverts_month: int | None
    """First month after payback in which the cumulative saving falls below zero again."""
    crossings_months: tuple[int, ...] = ()
    """Months in which the cheaper side of the month changes."""
    npv_usd: float
    notes: tuple[str, ...] = ()


class Comparison(Part):
    """One run beside one API."""

    price: ApiPrice
    """The row that was used, as it stands in the table."""
    blended_usd_per_mtok: float
    """At the scenario's mix, per million of the served model's tokens, input and output together."""
    api_usd_per_month: float
    """At today's volume."""
    self_host_usd_per_month: float
    windows: tuple[Window, ...]
    """All ranges where self-hosting wins, disjoint and in order (at most 50 are listed; the last is open-ended)."""
    first_tokens_per_month: float | None
    first_interval: Interval | None
    """The first crossing when capacity lies at the ends of its measured interval."""
    stable_tokens_per_month: float | None
    """None when it lies beyond `economics.max_replicas`, or never comes."""
    outcome: Outcome
    """`stable`: from the first crossing on it wins for good. `first`: it wins in windows before it wins for good. `never`: a
    full replica costs more than the same tokens by API. `beyond_capacity`: the first crossing needs more replicas than
    `economics.max_replicas`."""
    replicas_at_breakeven: int | None
    utilization_at_breakeven: float | None
    """Tokens at the first crossing over the planned capacity of the replicas that serve them."""
    wins_today: bool
    hybrid: Hybrid
    saving_usd_per_month: float | None = None
    """API less self-hosting at today's volume."""
    cost_at_breakeven: CostLines | None = None
    competitive_utilization: float | None = None
    """Utilization of the machines at which their cost per token is the API's; above 1 it cannot be."""
    monte_carlo: MonteCarlo | None = None
    tornado: tuple[TornadoRow, ...] = ()
    """Widest first."""
    flips: tuple[Flip, ...] = ()
    """Nearest first."""
    projection: Projection | None = None
    efficiency: Efficiency | None = None
    later_prices: tuple[ApiPrice, ...] = ()
    """Rows of the same model and host that come into force within the horizon."""


class CapacityOrigin(Part):
    """What one replica was measured (or assumed) to serve, before headroom, and under what."""

    badge: Badge
    source: str
    model_name: str
    accelerator_kind: Literal["cuda", "cpu"]
    accelerator_name: str
    accelerators: int
    """Of one replica."""
    input_tokens_per_hour: Interval
    """Per accelerator, at the SLO."""
    output_tokens_per_hour: Interval
    prompt_tokens: float
    """Mean of a request."""
    output_tokens: float
    slo: SloSpec | None
    cold_start_s: float | None
    energy_j_per_output_token: float | None
    power_kw: float | None
    """Of one replica at the SLO, where energy was measured."""
    prefix_hit_rate: float | None = None
    highest_passing_rps: float | None = None
    lowest_failing_rps: float | None = None
    tested_rps: tuple[float, float] | None = None
    """Lowest and highest offered rate of the load curve, requests a second; None without an open-loop probe."""


class IdleMeasured(Part):
    """What resting saved on a server that was watched, and what a wake cost (idle.json)."""

    source: str
    policy: str
    after_s: float
    observed_h: float
    asleep_share: float
    """Of the observed time, wakes included."""
    wakes: int
    wake_penalty_s: Interval | None
    """What a request that wakes it waits; None before the first wake."""
    released_bytes: int | None
    gpu_is_free: bool
    saved_low: float
    """Share of the machine's cost: time asleep less the time of the wakes. 0 for a sleep level, whose machine stays paid."""
    saved_high: float


class Fleet(Part):
    """How replicas follow the volume."""

    scaling: Literal["fixed", "autoscale"]
    peak_to_mean: float
    """Busiest hour over the mean hour."""
    redundancy: int
    min_replicas: int
    max_replicas: int
    cold_start_s: float
    hourly_replicas_today: tuple[int, ...] = ()
    """Spares included; one an hour of the profile, a single figure for a fixed fleet."""
    scale_ups_per_month: float = 0.0


class RunVerdict(Part):
    """One run (model, precision, engine, machine) as a business."""

    run: str
    scheme: str
    validity: Literal["VALID", "INVALID"]
    quality_gate: Literal["PASS", "FAIL", "none"] = "none"
    """The recorded quality loss judged when the verdict was solved: by the experiment's gate, in a scenario by the run's."""
    instance: InstancePrice | None
    """The row that was used; None for an owned machine."""
    replica_usd_per_hour: float
    capacity_tokens_per_month: float | None
    """Input plus output of one replica at the scenario's mix: at the SLO x headroom x 730 h. None: no rate met the SLO."""
    capacity_interval: Interval | None
    input_share: float
    """Of the tokens, in the scenario's mix."""
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None
    """At planned load: $/s / (T_in / r + T_out), input = output / r, r the price ratio."""
    allocation_usd_per_mtok: float | None
    """Cost of what is allocated today over today's tokens, input and output together. None at no volume."""
    usage_usd_per_mtok: float | None
    """The same if only busy time were paid."""
    replicas_today: int | None
    """Serving at the peak, spares not counted."""
    utilization_today: float | None
    cost_today: CostLines | None
    comparisons: tuple[Comparison, ...]
    machine: str = ""
    """For people, such as "aws c7i.large, on_demand"."""
    origin: CapacityOrigin | None = None
    fleet: Fleet | None = None
    extrapolated: tuple[str, ...] = ()
    """Why the capacity lies outside what was measured; empty when it does not."""
    extrapolated_rates: tuple[str, ...] = ()
    """Rates of a replica, planned or of today's busiest hour, below every rate that was tested."""
    planned_rps: float | None = None
    """Requests a second of a replica at planned load and the scenario's mix; None where no rate was measured."""
    busiest_rps: float | None = None
    """Of a replica in today's busiest hour."""
    idle: IdleMeasured | None = None
    """Where the server was watched while it rested."""
    allocation_input_usd_per_mtok: float | None = None
    """Today's whole bill split over input and output tokens by the price ratio."""
    allocation_output_usd_per_mtok: float | None = None
    energy_usd_per_mtok_output: float | None = None
    """Electricity alone, where energy was measured."""
    later_instances: tuple[InstancePrice, ...] = ()
    """Rows of the same machine that come into force within the horizon."""
    capital_usd: float = 0.0
    """Of a replica that is bought, spent at once; 0 for a rented one."""
    cash_usd_per_hour: float | None = None
    """Of a replica, without the capital; its whole price for a rented one."""


def cheapest_run(runs: Sequence[RunVerdict]) -> RunVerdict | None:
    """Return the run whose tokens are cheapest at planned load: the one that a verdict records as its best."""
    priced = [run for run in runs if run.output_usd_per_mtok is not None]
    return min(priced, key=lambda run: run.output_usd_per_mtok or 0.0, default=None)


class TrafficToday(Part):
    """Today's volume, mix and shape, and where each comes from."""

    tokens_per_month: float
    requests_per_month: float
    prompt_tokens: float
    output_tokens: float
    cached_share: float
    cache_write_share: float
    batch_share: float
    volume_badge: Badge
    mix_badge: Badge
    profile_badge: Badge
    profile_source: str
    hourly_weights: tuple[float, ...] = (1.0,)
    """Demand of each hour over the mean hour."""


class CurrencyShown(Part):
    """What amounts are shown in beside USD."""

    code: str
    usd_per_unit: float
    source: str


class Verdict(Record):
    """The answer, with everything that it stands on."""

    file_name: ClassVar[str] = "verdict.json"
    record: Literal["verdict"] = "verdict"
    version: Literal[1, 2] = 2
    experiment: str
    """Name of the experiment or scenario."""
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
    recommendation: Recommendation | None = None
    """In one word: `none` when there is no capacity to price."""
    best_run: str | None = None
    """The run whose tokens are cheapest at planned load."""
    economics: EconomicsSpec | None = None
    """As it was used, defaults filled in."""
    traffic: TrafficToday | None = None
    currency: CurrencyShown | None = None
    portfolio: Portfolio | None = None
    levers: LeverPlan | None = None
    spot: SpotPlan | None = None
    commitments: CommitmentPlan | None = None
    training: TrainingCrossover | None = None
    cautions: tuple[Caution, ...] = ()
    """One for each of `warnings`, in their order; none in a verdict that was written before there were any."""

    @property
    def best(self) -> RunVerdict | None:
        """Return the run that the verdict is about; None without a capacity. Version 1 did not record its choice."""
        if self.version == 1:
            return cheapest_run(self.runs)
        return next((run for run in self.runs if run.run == self.best_run), None)
