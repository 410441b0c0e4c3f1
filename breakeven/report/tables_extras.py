"""Answers to the wider questions as plain tables: portfolio, levers, spot, reservations, training."""

from __future__ import annotations

from collections.abc import Iterator

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.report.number_format import cents, multiple, share
from tokenhour.breakeven.report.table import Section
from tokenhour.contracts.records.verdict import Verdict

LINE_INPUTS = {
    "ops": names.OPERATIONS,
    "engineering": names.ENGINEERING,
    "storage": names.STORAGE,
    "egress": names.EGRESS,
    "setup": names.SETUP,
}


def of_scenario(verdict: Verdict) -> Iterator[Section]:
    """Yield a table for each wider question that the scenario asks."""
    if found := verdict.portfolio:
        bound = "every placement was tried" if found.exact else f"none is below {cents(found.lower_bound_usd_per_month)}"
        yield Section(
            "portfolio",
            "Which feature belongs where",
            f"{cents(found.total_usd_per_month)} a month: {cents(found.self_host_usd_per_month)} for {found.replicas} "
            f"shared replicas, {cents(found.api_usd_per_month)} by API; all by API "
            f"{cents(found.all_api_usd_per_month)}, all own {cents(found.all_self_host_usd_per_month)} ({bound}).",
            ("feature", "side", "API", "by API a month", "replicas", "why"),
            tuple(
                (p.name, p.side, p.api, cents(p.api_usd_per_month), f"{p.replicas:.3g}", p.reason) for p in found.placements
            ),
            tuple((names.feature(p.name), p.api, names.capacity(found.run)) for p in found.placements),
            "portfolio",
        )
    if levers := verdict.levers:
        yield Section(
            "levers",
            "Levers",
            f"They multiply on each line and are never summed: together {share(levers.low)} to {share(levers.high)} of "
            f"{cents(levers.bill_usd_per_month)} a month. {' '.join(f'Left out: {x}.' for x in levers.left_out)}".strip(),
            ("lever", "cost line", "saves", "origin", "source"),
            tuple((f.lever, f.line, f"{share(f.low)} to {share(f.high)}", f.badge, f.source) for f in levers.figures),
            tuple((names.lever(f.lever, f.line),) for f in levers.figures),
            "levers",
        )
        weighty = [x for x in levers.lines if x.weight]
        yield Section(
            "lever_lines",
            "Levers by cost line",
            "Weight of each line in the bill, and what its levers come to together.",
            ("cost line", "weight", "saves"),
            tuple((x.line, share(x.weight), f"{share(x.low)} to {share(x.high)}") for x in weighty),
            tuple(
                (
                    LINE_INPUTS.get(x.line, verdict.runs[0].machine),
                    *(names.lever(f.lever, f.line) for f in levers.figures if f.line == x.line),
                )
                for x in weighty
            ),
            "levers",
        )
    yield from _of_machines(verdict)
    if training := verdict.training:
        when = f"in month {training.crossover_month}" if training.crossover_month else "not within 120 months"
        yield Section(
            "training",
            "Training against inference",
            f"Inference has cost more than training {when}.",
            ("month", "training so far", "inference so far", "share of inference"),
            tuple(
                (str(m.month), cents(m.training_usd), cents(m.inference_usd), share(m.inference_share))
                for m in training.months
            ),
            tuple((names.TRAINING,) for _ in training.months),
            "training",
        )


def _of_machines(verdict: Verdict) -> Iterator[Section]:
    if spot := verdict.spot:
        yield Section(
            "spot",
            "Interruptible machines",
            f"At {share(spot.discount)} off on-demand ({spot.discount_source}); {spot.note}.",
            ("work", "pays", "overhead or replicas", "cost against on-demand"),
            (
                ("batch", _yes(spot.batch_viable), f"{share(spot.overhead)} of the time lost", multiple(spot.price_ratio)),
                (
                    "serving",
                    _yes(spot.serving_viable),
                    f"{spot.serving_replicas} spot for {spot.on_demand_replicas} on-demand, with fallback",
                    multiple(1 - spot.serving_saved_share),
                ),
            ),
            ((names.SPOT,), (names.SPOT, names.VOLUME, names.TRAFFIC)),
            "spot",
        )
    if plan := verdict.commitments:
        yield Section(
            "commitments",
            "How much to reserve",
            f"{cents(plan.usd_per_month)} a month against {cents(plan.all_on_demand_usd_per_month)} all by the hour; demand "
            f"{plan.demand_mean_replicas:.1f} replicas on average, {plan.demand_peak_replicas:.0f} at the peak.",
            ("machine", "term", "reserve", "by the hour, on average", "a month", "worth reserving above"),
            tuple(
                (
                    f"{r.cloud} {r.instance}",
                    r.term,
                    f"{r.reserved_replicas} replicas",
                    f"{r.on_demand_replicas_mean:.2f} replicas",
                    cents(r.usd_per_month),
                    share(least),
                )
                for r, least in zip(plan.reservations, plan.break_even_utilization, strict=True)
            ),
            tuple((names.reservation(r.cloud, r.instance, r.term), names.VOLUME, names.TRAFFIC) for r in plan.reservations),
            "commitments",
        )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
