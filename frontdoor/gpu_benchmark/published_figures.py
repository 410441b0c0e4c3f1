"""Published throughput to hold our own against, with its source. A pure comparison; a deviation asks for its cause.

The figures are output tokens/s and GPU, saturated, at about 512 prompt and 256 output tokens. They are not targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.gpu_benchmark import Deviation

TOLERANCE = 0.30
_TABLE = "survey of published vLLM figures, 8B-class models at 512/256, saturated (docs/gpu.md)"
_ESTIMATE = "extrapolated from H100 by memory bandwidth, not a measurement (docs/gpu.md)"


@dataclass(frozen=True, slots=True)
class Published:
    """A range of published output tokens/s and GPU."""

    gpu: str
    """A word of the GPU's name."""
    scheme: str
    low: float
    high: float
    source: str


EIGHT_BILLION = (
    Published("A6000", "none", 1459, 1459, _TABLE),
    Published("A6000", "w8a8", 1946, 1946, _TABLE),
    Published("A6000", "w4a16", 1306, 1306, _TABLE),
    Published("A100", "none", 2893, 2893, _TABLE),
    Published("A100", "w8a8", 3610, 3610, _TABLE),
    Published("A100", "w4a16", 2688, 2688, _TABLE),
    Published("H100", "none", 5786, 6238, _TABLE),
    Published("H100", "fp8", 6656, 8155, _TABLE),
    Published("H100", "w4a16", 5862, 5862, _TABLE),
    Published("H200", "none", 7000, 7500, _ESTIMATE),
    Published("H200", "fp8", 8000, 10000, _ESTIMATE),
)
_EIGHT = "8b"  # the class of model that the table is of
_CHAT: tuple[float, float] = (512.0, 256.0)


def outside(value: float, low: float, high: float) -> float:
    """Return by which share of the nearer end `value` lies outside [low, high]; negative below, 0 inside."""
    if value < low:
        return value / low - 1
    return value / high - 1 if value > high else 0.0


def deviations(summaries: Sequence[Summary], table: Sequence[Published] = EIGHT_BILLION) -> tuple[Deviation, ...]:
    """Compare the saturated rate of each comparable run: an 8B model, the chat mix, a GPU and a scheme of the table."""
    found = []
    for summary in summaries:
        row = _row(summary, table)
        if row is None:
            continue
        per_gpu = summary.peak.output_tokens_per_hour.value / 3600
        share = outside(per_gpu, row.low, row.high)
        found.append(
            Deviation(
                run=summary.run,
                output_tps_per_gpu=per_gpu,
                published_low=row.low,
                published_high=row.high,
                deviation=share,
                within=abs(share) <= TOLERANCE,
                source=row.source,
            )
        )
    return tuple(found)


def _row(summary: Summary, table: Sequence[Published]) -> Published | None:
    load = summary.workload
    if load.prompt is None or load.output is None or (load.prompt.mean_tokens, load.output.mean_tokens) != _CHAT:
        return None
    if _EIGHT not in summary.model_name.lower():
        return None
    words = set(summary.accelerator.name.replace("-", " ").split())
    return next((row for row in table if row.gpu in words and row.scheme == summary.scheme), None)


def said(found: Deviation) -> str:
    """Write a comparison in a line."""
    published = f"{found.published_low:.0f}"
    if found.published_high != found.published_low:
        published += f"-{found.published_high:.0f}"
    verdict = "within" if found.within else "OUTSIDE: look for the cause"
    return (
        f"{found.run}: {found.output_tps_per_gpu:.0f} output tokens/s and GPU, published {published} "
        f"({found.deviation:+.0%}, {verdict} ±{TOLERANCE:.0%}; {found.source})"
    )
