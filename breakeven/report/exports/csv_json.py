"""One row for each run and API with every figure of the verdict, as CSV and JSON. Absent figures are empty, never zero."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict


def row(verdict: Verdict, run: RunVerdict, c: Comparison) -> dict[str, Any]:
    """Return the figures of one comparison; units stand in the names."""
    mc, path, bill, machine = c.monte_carlo, c.projection, run.cost_today, run.instance
    return {
        "experiment": verdict.experiment,
        "on_date": str(verdict.on_date),
        "recompute_by": str(verdict.recompute_by),
        "run": run.run,
        "scheme": run.scheme,
        "validity": run.validity,
        "capacity_badge": run.origin.badge if run.origin else None,
        "machine": run.machine,
        "machine_source": machine.origin if machine else "scenario",
        "replica_usd_per_hour": run.replica_usd_per_hour,
        "capacity_tokens_per_month": run.capacity_tokens_per_month,
        "tokens_per_month": verdict.tokens_per_month,
        "replicas_today": run.replicas_today,
        "utilization_today": run.utilization_today,
        "own_input_usd_per_mtok": run.input_usd_per_mtok,
        "own_output_usd_per_mtok": run.output_usd_per_mtok,
        "allocation_usd_per_mtok": run.allocation_usd_per_mtok,
        "usage_usd_per_mtok": run.usage_usd_per_mtok,
        **{f"own_{name}_usd": value for name, value in (bill.model_dump() if bill else {}).items()},
        "api_model": c.price.model,
        "api_host": c.price.host,
        "api_source": c.price.origin,
        "api_usd_per_mtok": c.blended_usd_per_mtok,
        "api_usd_per_month": c.api_usd_per_month,
        "own_usd_per_month": c.self_host_usd_per_month,
        "saving_usd_per_month": c.api_usd_per_month - c.self_host_usd_per_month,
        "own_is_cheaper_today": c.wins_today,
        "outcome": c.outcome,
        "first_tokens_per_month": c.first_tokens_per_month,
        "first_low_tokens_per_month": c.first_interval.low if c.first_interval else None,
        "first_high_tokens_per_month": c.first_interval.high if c.first_interval else None,
        "stable_tokens_per_month": c.stable_tokens_per_month,
        "replicas_at_breakeven": c.replicas_at_breakeven,
        "utilization_at_breakeven": c.utilization_at_breakeven,
        "competitive_utilization": c.competitive_utilization,
        "hybrid_base_replicas": c.hybrid.base_replicas,
        "hybrid_overflow_share": c.hybrid.overflow_share,
        "hybrid_usd_per_month": c.hybrid.usd_per_month,
        "win_probability": mc.win_probability if mc else None,
        "first_p10_tokens_per_month": mc.first_tokens_per_month.p10 if mc else None,
        "first_p50_tokens_per_month": mc.first_tokens_per_month.p50 if mc else None,
        "first_p90_tokens_per_month": mc.first_tokens_per_month.p90 if mc else None,
        "payback_month": path.payback_month if path else None,
        "npv_usd": path.npv_usd if path else None,
    }


def rows(verdict: Verdict) -> list[dict[str, Any]]:
    """Return a row for each run and API."""
    return [row(verdict, run, c) for run in verdict.runs for c in run.comparisons]


def to_csv(verdict: Verdict) -> bytes:
    """Write the rows as CSV, with a header even where no run has a capacity."""
    found = rows(verdict)
    names = list(dict.fromkeys(name for one in found for name in one)) or ["experiment", "on_date", "run"]
    return csv_bytes(names, found)


def csv_bytes(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Write a header and a line for each mapping; what a line lacks is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def to_json(verdict: Verdict) -> bytes:
    """Write what the report says, flat: the sentence, the rows, every input with its badge, the warnings."""
    data = {
        "experiment": verdict.experiment,
        "sentence": verdict.sentence,
        "recommendation": verdict.recommendation,
        "best_run": verdict.best_run,
        "on_date": str(verdict.on_date),
        "recompute_by": str(verdict.recompute_by),
        "rows": rows(verdict),
        "inputs": [a.model_dump(mode="json") for a in verdict.assumptions],
        "warnings": list(verdict.warnings),
        "record": "verdict.json",
    }
    return (json.dumps(data, indent=2) + "\n").encode()
