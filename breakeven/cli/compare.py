"""`tokenhour compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenhour.breakeven.report.number_format import measured, spread
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.units import human_count

if TYPE_CHECKING:
    from tokenhour.breakeven.compare.runs import ComparedRun, Regression


@click.command("compare", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", metavar="RUN RUN...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--gate", is_flag=True, help="Exit 1 when a run is worse than the first beyond the intervals.")
@click.option("--across-hardware", is_flag=True, help="Compare machines on purpose.")
@click.option("--allow-invalid", is_flag=True, help="Show INVALID runs too, marked.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the Pareto plot; `compare` beside the first run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cli(
    runs: tuple[Path, ...], gate: bool, across_hardware: bool, allow_invalid: bool, out: Path | None, as_json: bool
) -> None:
    """Set runs side by side: precisions, models, engines or machines. Refuses what cannot be compared.

    \b
    Examples:
      tokenhour compare results/demo-none results/demo-w8a8 results/demo-gptq-int4
      tokenhour compare results/reference/main results/main --gate
      tokenhour compare results/l40s-w8a8 results/h100-w8a8 --across-hardware
    """
    from tokenhour.breakeven.compare.runs import pareto, read, refuse, regressions

    if len(runs) < 2:
        raise InputError("one run is nothing to compare", where="RUN", remedy="name two folders below results/, or more")
    entries = [read(path) for path in runs]
    refuse(entries, across_hardware=across_hardware, allow_invalid=allow_invalid)
    best, worse = pareto(entries), regressions(entries)
    if as_json:
        print(json.dumps(_data(entries, best, worse), indent=2))
    else:
        _print(entries, best, worse)
    if any(e.cost and e.mean_kl for e in entries):
        _plot(entries, best, out or runs[0].parent / "compare", quiet=as_json)
    if gate and worse:
        said = "; ".join(f"{r.run}: {r.metric} {spread(r.found)}, first run {spread(r.baseline)}" for r in worse)
        raise RunFailedError(f"regressed beyond the interval: {said}", remedy="find the cause, or measure both again")


def _plot(entries: Sequence[ComparedRun], best: set[str], folder: Path, *, quiet: bool) -> None:
    from tokenhour.breakeven.report.plots.figure import render
    from tokenhour.breakeven.report.plots.pareto import quality_against_cost
    from tokenhour.contracts.io.atomic_io import write_bytes_atomic

    plot = render("pareto", "Quality loss against cost.", lambda: quality_against_cost(entries, best))
    for suffix, data in (("png", plot.png), ("svg", plot.svg)):
        write_bytes_atomic(folder / f"pareto.{suffix}", data)
    if not quiet:
        print(folder / "pareto.png")


def _data(entries: Sequence[ComparedRun], best: set[str], worse: Sequence[Regression]) -> dict[str, Any]:
    def interval(found: Interval | None) -> Any:
        return found.model_dump() if found else None

    rows = [
        {
            "run": e.summary.run,
            "model": e.summary.model_name,
            "scheme": e.summary.scheme,
            "engine": e.summary.engine,
            "accelerator": e.summary.accelerator.name,
            "accelerators": e.summary.accelerator.count,
            "validity": e.summary.validity,
            "output_tokens_per_hour": interval(e.output_tokens_per_hour),
            "input_tokens_per_hour": interval(e.input_tokens_per_hour),
            "accelerator_hours_per_mtok": interval(e.accelerator_hours_per_mtok),
            "mean_kl": interval(e.mean_kl),
            "perplexity_ratio": e.summary.perplexity_ratio,
            "usd_per_mtok": interval(e.usd_per_mtok),
            "first_tokens_per_month": e.first_tokens_per_month,
            "roofline": [point.model_dump() for point in e.roofline.points] if e.roofline else None,
            "pareto": e.summary.run in best,
        }
        for e in entries
    ]
    found = [{"run": r.run, "metric": r.metric, "baseline": interval(r.baseline), "found": interval(r.found)} for r in worse]
    return {"runs": rows, "regressions": found}


def _print(entries: Sequence[ComparedRun], best: set[str], worse: Sequence[Regression]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tokenhour.breakeven.cli.terminal import console

    apis = list(dict.fromkeys(api for e in entries for api in e.first_tokens_per_month))
    first = entries[0].summary
    table = Table(title=f"Side by side: {first.workload.name}, p{first.slo.percentile:g}", title_justify="left")
    for name in ("", *(e.summary.run for e in entries)):
        table.add_column(escape(name), overflow="fold")
    for name, cells in _lines(entries, best, apis):
        table.add_row(name, *map(escape, cells))
    out = console()
    out.print(table)
    for r in worse:
        out.print(
            f"[red]worse than {escape(first.run)}[/]: {escape(r.run)}, {r.metric}: {spread(r.found)} against "
            f"{spread(r.baseline)}"
        )


def _lines(entries: Sequence[ComparedRun], best: set[str], apis: Sequence[str]) -> list[tuple[str, list[str]]]:
    def all_of(write: Any) -> list[str]:
        return [write(e) for e in entries]

    lines = [
        ("model", all_of(lambda e: f"{e.summary.model_name}, {e.summary.scheme}")),
        ("engine", all_of(lambda e: e.summary.engine)),
        ("accelerator", all_of(lambda e: f"{e.summary.accelerator.count} x {e.summary.accelerator.name}")),
        ("validity", all_of(lambda e: e.summary.validity)),
        ("output tokens/h at the SLO", all_of(lambda e: spread(e.output_tokens_per_hour))),
        ("input tokens/h at the SLO", all_of(lambda e: spread(e.input_tokens_per_hour))),
        ("mean KL, nats", all_of(lambda e: spread(e.mean_kl))),
        ("perplexity ratio", all_of(lambda e: measured(e.summary.perplexity_ratio))),
        ("USD per M output tokens", all_of(lambda e: spread(e.usd_per_mtok))),
        ("accelerator-hours per M", all_of(lambda e: spread(e.accelerator_hours_per_mtok))),
    ]
    if any(e.roofline for e in entries):
        lines += [
            ("copy bandwidth used (MBU)", all_of(lambda e: _shares(e, "bandwidth_utilization"))),
            ("matrix rate used (MFU)", all_of(lambda e: _shares(e, "ops_utilization"))),
        ]
    lines += [(f"break-even, {api}", all_of(lambda e, api=api: _first(e, api))) for api in apis]
    return [*lines, ("on the Pareto front", all_of(lambda e: "yes" if e.summary.run in best else ""))]


def _first(e: ComparedRun, api: str) -> str:
    if api not in e.first_tokens_per_month:
        return "-"
    found = e.first_tokens_per_month[api]
    return "none" if found is None else human_count(found)


def _shares(e: ComparedRun, name: str) -> str:
    """Say a utilization of each load that a run's roofline has; "-" without one."""
    points = e.roofline.points if e.roofline else ()
    found = [(p.point, getattr(p, name)) for p in points]
    return ", ".join(f"{share:.1%} {'at ' * (load == 'peak')}{load}" for load, share in found if share is not None) or "-"
