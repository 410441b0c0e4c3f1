"""Where a replica's capacity comes from: a measured summary, or a scenario's word for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tokenhour.breakeven.model.plant import Plant
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.config.scenario import AssumedCapacity
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import CapacityOrigin
from tokenhour.contracts.units import HOURS_PER_MONTH, SECONDS_PER_HOUR, human_count

SAME_MIX = 0.05
_JUST = 1 + 1e-9
"""A rate within rounding of the last one that was tested was tested."""
ASSUMED_SPREAD = (0.7, 1.3)
"""P10 and P90 of a capacity that nobody measured here."""


def measured(summary: Summary, source: str, *, allow_invalid: bool = True) -> Plant:
    """Take a summary's figures at the SLO; none of an INVALID run that is not allowed."""
    device = summary.accelerator
    common = (summary.run, summary.scheme, summary.validity, device.kind, device.count)
    mix = (summary.mean_prompt_tokens, summary.mean_output_tokens)
    if summary.at_slo is None or (summary.validity == "INVALID" and not allow_invalid):
        return Plant(*common, *mix, None)
    point = summary.slo_point()
    origin = CapacityOrigin(
        badge="measured",
        source=source,
        model_name=summary.model_name,
        accelerator_kind=device.kind,
        accelerator_name=device.name,
        accelerators=device.count,
        input_tokens_per_hour=summary.at_slo.input_tokens_per_hour,
        output_tokens_per_hour=summary.at_slo.output_tokens_per_hour,
        prompt_tokens=mix[0],
        output_tokens=mix[1],
        slo=summary.slo,
        cold_start_s=summary.cold_start_s,
        energy_j_per_output_token=summary.energy_j_per_output_token,
        power_kw=point.energy_j / point.window_s / 1000 if point and point.energy_j is not None else None,
        prefix_hit_rate=point.prefix_hit_rate if point else None,
        highest_passing_rps=summary.highest_passing_rps,
        lowest_failing_rps=summary.lowest_failing_rps,
        tested_rps=_tested(summary),
    )
    return Plant(*common, *mix, origin)


def _tested(summary: Summary) -> tuple[float, float] | None:
    """Return the lowest and the highest offered rate of the load curve; None where every probe was closed loop."""
    rates = [p.offered_rps for p in summary.load_curve if p.offered_rps is not None]
    return (min(rates), max(rates)) if rates else None


def assumed(capacity: AssumedCapacity, run: str) -> Plant:
    """Take a scenario's word for it; the interval is that of a guess."""
    low, high = ASSUMED_SPREAD

    def spread(value: float) -> Interval:
        return Interval(value=value, low=low * value, high=high * value)

    origin = CapacityOrigin(
        badge="assumed",
        source=capacity.source,
        model_name=capacity.name,
        accelerator_kind=capacity.kind,
        accelerator_name="as assumed",
        accelerators=capacity.accelerators,
        input_tokens_per_hour=spread(capacity.input_tokens_per_hour),
        output_tokens_per_hour=spread(capacity.output_tokens_per_hour),
        prompt_tokens=capacity.prompt_tokens,
        output_tokens=capacity.output_tokens,
        slo=capacity.slo,
        cold_start_s=capacity.cold_start_s,
        energy_j_per_output_token=capacity.energy_j_per_output_token,
        power_kw=None,
    )
    mix = (capacity.prompt_tokens, capacity.output_tokens)
    return Plant(run, "assumed", "VALID", capacity.kind, capacity.accelerators, *mix, origin)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica can serve in a month at the SLO, after headroom; tokens are input plus output."""

    tokens: Interval
    input_share: float
    input_tps: float
    output_tps: float
    """Planned rates of one replica."""
    extrapolated: tuple[str, ...]
    """Why this lies outside what was measured."""
    planned_rps: float | None = None
    """Requests a second of one replica at this capacity; None where no rate was measured."""


def capacity(origin: CapacityOrigin, spec: EconomicsSpec, prompt_tokens: float, output_tokens: float) -> Capacity:
    """Return lambda* x h over a 730-hour month at the scenario's mix.

    Another mix than the measured one does the same work an hour, an input token being 1/r of an output token's (r is
    `price_ratio`), and is marked extrapolated; so is a planned rate above every rate that was tested. The interval adds
    the half-widths of input and output: they rise and fall together with the requests.
    """
    taken, given = origin.input_tokens_per_hour, origin.output_tokens_per_hour
    into, out = taken.value, given.value
    low = ((taken.low if taken.low is not None else into) + (given.low if given.low is not None else out)) / (into + out)
    high = ((taken.high if taken.high is not None else into) + (given.high if given.high is not None else out)) / (
        into + out
    )
    more = 1.0
    if (prompt_tokens, output_tokens) != (origin.prompt_tokens, origin.output_tokens):
        work = into / spec.price_ratio + out
        requests = work / (prompt_tokens / spec.price_ratio + output_tokens)
        more = requests * (origin.prompt_tokens / spec.price_ratio + origin.output_tokens) / work
        into, out = requests * prompt_tokens, requests * output_tokens
    value = (into + out) * spec.headroom * HOURS_PER_MONTH * origin.accelerators
    second = spec.headroom * origin.accelerators / SECONDS_PER_HOUR
    interval = Interval(value=value, low=value * low, high=value * high)
    planned = origin.highest_passing_rps * spec.headroom * more if origin.highest_passing_rps is not None else None
    reasons = (*_outside(origin, prompt_tokens, output_tokens), *above(origin, planned))
    return Capacity(interval, into / (into + out), into * second, out * second, reasons, planned)


def above(origin: CapacityOrigin, planned_rps: float | None) -> list[str]:
    """Say that a replica is planned for more than it was ever offered; empty when it is not, or nobody knows."""
    if planned_rps is None or origin.tested_rps is None or planned_rps <= origin.tested_rps[1] * _JUST:
        return []
    return [f"planned for {_rps(planned_rps)} a replica, tested {_range(origin.tested_rps)}"]


def below(origin: CapacityOrigin, planned_rps: float | None, busiest_rps: float | None) -> list[str]:
    """Say that a replica would see less than it was ever offered; its capacity stands, its latency there was not seen."""
    tested = origin.tested_rps
    if tested is None:
        return []
    asked = (("planned load", planned_rps), ("today's busiest hour", busiest_rps))
    return [
        f"{name} asks {_rps(rate)} of a replica, tested {_range(tested)}"
        for name, rate in asked
        if rate is not None and 0 < rate < tested[0] / _JUST
    ]


def _rps(rate: float) -> str:
    return f"{rate:.3g} requests/s"


def _range(tested: tuple[float, float]) -> str:
    return f"from {tested[0]:.3g} to {_rps(tested[1])}"


def _outside(origin: CapacityOrigin, prompt_tokens: float, output_tokens: float) -> list[str]:
    said = []
    for name, wanted, had in (
        ("input", prompt_tokens, origin.prompt_tokens),
        ("output", output_tokens, origin.output_tokens),
    ):
        if abs(wanted - had) > SAME_MIX * had:
            badge = origin.badge if origin.badge == "assumed" else "measured"
            said.append(f"{human_count(wanted)} {name} tokens a request, {badge} with {human_count(had)}")
    return said
