"""Runs side by side: whether they may be compared, what each comes to, and whether one is worse than the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenhour.contracts import input_keys
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import RunVerdict, Verdict
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.contracts.units import TOKENS_PER_MTOK

HARDWARE = "hardware"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run; absent figures are None. Costs are at planned load, per million output tokens."""

    summary: Summary
    output_tokens_per_hour: Interval | None
    input_tokens_per_hour: Interval | None
    accelerator_hours_per_mtok: Interval | None
    """Of output, at the SLO: a cost that needs no price."""
    mean_kl: Interval | None
    usd_per_mtok: Interval | None
    first_tokens_per_month: dict[str, float | None] = field(default_factory=dict)
    """First break-even by API, where a verdict stands on this run."""
    roofline: Roofline | None = None

    @property
    def cost(self) -> Interval | None:
        """USD where there is a price, else accelerator-hours."""
        return self.usd_per_mtok or self.accelerator_hours_per_mtok


def read(path: Path) -> ComparedRun:
    """Read a run's summary, its quality and the latest verdict that stands on exactly this summary."""
    folder = path.parent if path.suffix == ".json" else path
    summary = Summary.read(folder)
    quality = Checkpoint.read(folder).quality if Checkpoint.exists(folder) else None
    kl = quality.mean_kl_divergence if quality else None
    if kl is None and summary.mean_kl_divergence is not None:
        kl = Interval(value=summary.mean_kl_divergence)
    return replace(entry(summary, kl, _priced(folder, summary)), roofline=Roofline.beside(folder))


def _priced(folder: Path, summary: Summary) -> RunVerdict | None:
    found = []
    for file in sorted(folder.resolve().parent.glob("*/verdict.json")):
        verdict = Verdict.read(file)
        if verdict.inputs.get(input_keys.SUMMARY.key(folder.resolve().name)) == Summary.sha256_in(folder):
            found += [(verdict.created_utc, run) for run in verdict.runs if run.run == summary.run]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def entry(summary: Summary, kl: Interval | None, priced: RunVerdict | None) -> ComparedRun:
    """Put a run's figures together."""
    at = summary.at_slo
    out = at.output_tokens_per_hour if at else None
    usd = priced.output_usd_per_mtok if priced else None
    return ComparedRun(
        summary=summary,
        output_tokens_per_hour=out,
        input_tokens_per_hour=at.input_tokens_per_hour if at else None,
        accelerator_hours_per_mtok=_inverse(out, TOKENS_PER_MTOK) if out else None,
        mean_kl=kl,
        usd_per_mtok=_inverse(out, usd * out.value) if out and usd is not None else None,
        first_tokens_per_month={c.price.name: c.first_tokens_per_month for c in (priced.comparisons if priced else ())},
    )


def _inverse(rate: Interval, scale: float) -> Interval:
    """Return scale/rate with its interval turned around."""
    return Interval(
        value=scale / rate.value,
        low=scale / rate.high if rate.high else None,
        high=scale / rate.low if rate.low else None,
    )


def refuse(entries: Sequence[ComparedRun], *, across_hardware: bool, allow_invalid: bool) -> None:
    """Raise when the runs must not be compared, with both values; RunFailedError for an INVALID one."""
    first = entries[0].summary
    for other in (e.summary for e in entries[1:]):
        for name, mine, theirs in _conditions(first, other):
            if mine != theirs and not (name == HARDWARE and across_hardware):
                allowed = "; --across-hardware compares machines on purpose" if name == HARDWARE else ""
                raise InputError(
                    f"not comparable: {first.run} has {name} {_differing(mine, theirs)}, {other.run} has "
                    f"{_differing(theirs, mine)}",
                    where=name,
                    remedy=f"measure both under the same {name}{allowed}",
                )
    bad = [f"{e.summary.run} ({', '.join(r.rule for r in e.summary.reasons)})" for e in entries if _invalid(e)]
    if bad and not allow_invalid:
        raise RunFailedError(
            f"an INVALID run is not compared: {'; '.join(bad)}",
            remedy="measure again, or say --allow-invalid and see it marked",
        )


def _invalid(one: ComparedRun) -> bool:
    return one.summary.validity == "INVALID"


def _conditions(a: Summary, b: Summary) -> Iterator[tuple[str, Any, Any]]:
    """Yield what must be the same, as plain data. A seed that differs draws other requests of the same kind."""
    skip = {"seed"}
    yield "workload", a.workload.model_dump(exclude=skip), b.workload.model_dump(exclude=skip)
    yield "SLO", a.slo.model_dump(), b.slo.model_dump()
    machines = [{"kind": s.accelerator.kind, "name": s.accelerator.name, "count": s.accelerator.count} for s in (a, b)]
    yield HARDWARE, machines[0], machines[1]


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Say only the fields that differ."""
    return ", ".join(f"{name} {value}" for name, value in mine.items() if theirs.get(name) != value)


def pareto(entries: Sequence[ComparedRun]) -> set[str]:
    """Name the runs that no other beats in cost and in quality at once."""
    points = [(e.summary.run, e.cost.value, e.mean_kl.value) for e in entries if e.cost and e.mean_kl]
    return {
        run
        for run, cost, loss in points
        if not any((c <= cost and q <= loss) and (c < cost or q < loss) for _, c, q in points)
    }


@dataclass(frozen=True, slots=True)
class Regression:
    """A metric of a run that is worse than the first run's by more than both intervals allow."""

    run: str
    metric: str
    baseline: Interval
    found: Interval | None
    """None: the run has no such figure any more."""


METRICS = (
    ("output tokens per accelerator-hour at the SLO", "output_tokens_per_hour", True),
    ("mean KL divergence", "mean_kl", False),
    ("USD per M output tokens", "usd_per_mtok", False),
)


def regressions(entries: Sequence[ComparedRun]) -> list[Regression]:
    """Compare every run with the first: worse when the intervals do not even touch."""
    base, found = entries[0], []
    for other in entries[1:]:
        for metric, name, more_is_better in METRICS:
            before, now = getattr(base, name), getattr(other, name)
            if before is None or (now is None and name == "usd_per_mtok"):
                continue
            if now is None or worse(before, now, more_is_better=more_is_better):
                found.append(Regression(other.summary.run, metric, before, now))
    return found


def worse(before: Interval, now: Interval, *, more_is_better: bool) -> bool:
    """Tell whether `now` lies wholly on the worse side of `before`."""
    if more_is_better:
        return _high(now) < _low(before)
    return _low(now) > _high(before)


def _low(i: Interval) -> float:
    return i.value if i.low is None else i.low


def _high(i: Interval) -> float:
    return i.value if i.high is None else i.high
