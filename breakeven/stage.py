"""The stage's shell: find summaries and prices, reuse a current verdict, write a new one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from breakeven.prices import Tables, api_price, hourly_usd, instance_price, load_tables
from breakeven.solve import verdict
from contracts.errors import InputError, RunFailedError
from contracts.experiment import Experiment
from contracts.run import Summary
from contracts.rundir import RunDir, now_utc
from contracts.store import sha256_file
from contracts.verdict import Verdict

SUMMARY_PREFIX = "summary:"


def read_summaries(experiment: Experiment, results: Path) -> list[Summary]:
    """Read the summary of every scheme; InputError names the one that is missing and how to get it."""
    found = []
    for scheme in experiment.schemes:
        folder = RunDir.of(results, experiment, scheme).path
        if not Summary.exists(folder):
            raise InputError(
                f"{scheme} has not been measured yet", where=str(folder), remedy=f"make bench EXP=... SCHEME={scheme}"
            )
        found.append(Summary.read(folder))
    return found


def refuse_invalid(summaries: Sequence[Summary], *, allow: bool) -> None:
    """Raise RunFailedError when a run is INVALID and that was not allowed."""
    invalid = [s for s in summaries if s.validity == "INVALID"]
    if invalid and not allow:
        said = "; ".join(f"{s.run} ({', '.join(r.rule for r in s.reasons)})" for s in invalid)
        raise RunFailedError(
            f"an INVALID measurement gives no dollar figure: {said}",
            remedy="measure again, or say --allow-invalid and see it in red",
        )


def price_date(experiment: Experiment, today: dt.date) -> dt.date:
    """Return the date whose prices count; InputError for one that is none."""
    said = experiment.economics.on_date
    if said is None:
        return today
    try:
        return dt.date.fromisoformat(said)
    except ValueError as error:
        raise InputError(f"{said!r} is no date", where="economics.on_date", remedy="write it as 2026-11-24") from error


def preflight(experiment: Experiment, prices: Path) -> None:
    """Look every price up that the experiment will need, so that a wrong name is found before the hours of measuring."""
    spec, tables = experiment.economics, load_tables(prices)
    on = price_date(experiment, dt.datetime.now(dt.UTC).date())
    hourly_usd(instance_price(tables, spec.hardware, spec.cloud, spec.region, on), spec.purchase)
    for choice in spec.apis:
        api_price(tables, choice.model, choice.host, on)


def run(experiment: Experiment, results: Path, prices: Path, *, allow_invalid: bool) -> tuple[Verdict, bool]:
    """Solve, or reuse the verdict that stands when all of its inputs are the same; return (verdict, reused)."""
    summaries = read_summaries(experiment, results)
    refuse_invalid(summaries, allow=allow_invalid)
    tables = load_tables(prices)
    on = price_date(experiment, dt.datetime.now(dt.UTC).date())
    inputs = _inputs(experiment, results, tables)
    folder = RunDir.of(results, experiment)
    if Verdict.exists(folder.path):
        standing = Verdict.read(folder.path)
        if (standing.inputs, standing.on_date, standing.allowed_invalid) == (inputs, on, allow_invalid):
            folder.note("breakeven", "reused")
            return standing, True
    found = verdict(experiment, summaries, tables, on, inputs=inputs, created_utc=now_utc(), allowed_invalid=allow_invalid)
    folder.open(experiment)
    folder.supersede(Verdict.file_name)
    found.write(folder.path)
    folder.note("breakeven", "done")
    return found, False


def _inputs(experiment: Experiment, results: Path, tables: Tables) -> dict[str, str]:
    runs = {name: RunDir.of(results, experiment, name).path for name in experiment.schemes}
    return {
        **{f"{SUMMARY_PREFIX}{path.name}": Summary.sha256_in(path) for path in runs.values()},
        "experiment.economics": experiment.section_sha256("economics", "schemes"),
        "prices/api.yaml": sha256_file(tables.folder / "api.yaml"),
        "prices/instances.yaml": sha256_file(tables.folder / "instances.yaml"),
    }
