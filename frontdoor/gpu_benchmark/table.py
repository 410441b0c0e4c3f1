"""The table of a proof, as Markdown: for a person, and for the summary page of a CI job."""

from __future__ import annotations

from pathlib import Path

from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.contracts.units import SECONDS_PER_HOUR, human_count, human_seconds
from tokenhour.frontdoor.gpu_benchmark.published_figures import said

_HEAD = (
    "| run | validity | peak output tok/s | at the SLO output tok/s | tokens per accelerator-hour at the SLO (in / out) "
    "| J per output token | $ per M output | copy bandwidth used | matrix rate used |"
)
DASH = "-"
_RULE = "|---|---|---|---|---|---|---|---|---|"


def table(proof: Proof, results: Path) -> str:
    """Write the whole page: what was measured on what, each run a line, what was left out, published figures."""
    device = proof.accelerator
    text = [
        f"# {proof.name}",
        "",
        f"{proof.model}, weights: **{proof.weights}**"
        + (" (random ones of this shape: sound for speed, silent about quality)" if proof.weights == "dummy" else "")
        + f"; {device.count} x {device.name}"
        + (f", driver {device.driver}" if device.driver else "")
        + f"; {'quick, ' if proof.quick else ''}{human_seconds(proof.spent_s)} of {human_seconds(proof.budget_s)}; "
        + ("complete" if proof.complete else "NOT complete"),
        "",
        _HEAD,
        _RULE,
        *(line(results / run) for run in proof.runs),
        "",
    ]
    if device.kind == "cpu":
        text += ["No GPU was used: this run shows that the way works, and says nothing of any GPU.", ""]
    left = [step for step in proof.steps if step.state in {"skipped", "failed", "invalid"}]
    text += [f"- {step.name}: {step.state}: {step.detail}" for step in left]
    text += [f"- {found.scheme}: {'; '.join(found.kernels) or 'no word of its kernels'}" for found in proof.loaded]
    text += [f"- {said(found)}" for found in proof.published]
    return "\n".join(text).rstrip() + "\n"


def line(run: Path) -> str:
    """Write one run's line; what was not measured is a dash."""
    summary = Summary.read(run)
    peak = summary.peak.output_tokens_per_hour.value / SECONDS_PER_HOUR
    at, slo, hourly = summary.at_slo, DASH, DASH
    if at is not None:
        slo = f"{at.output_tokens_per_hour.value / SECONDS_PER_HOUR:.0f}"
        hourly = f"{human_count(at.input_tokens_per_hour.value)} / {human_count(at.output_tokens_per_hour.value)}"
    energy = summary.energy_j_per_output_token
    bandwidth, matrix = shares(run)
    cells = (
        summary.run, summary.validity, f"{peak:.0f}", slo, hourly,
        DASH if energy is None else f"{energy:.3g}", price(run, summary.run), bandwidth, matrix,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def shares(run: Path) -> tuple[str, str]:
    """Return both utilizations at the peak."""
    if not Roofline.exists(run):
        return DASH, DASH
    peak = Roofline.read(run).points[0]
    used = (peak.bandwidth_utilization, peak.ops_utilization)
    bandwidth, matrix = (DASH if share is None else f"{share:.1%}" for share in used)
    return bandwidth, matrix


def price(run: Path, name: str) -> str:
    """Return the verdict's USD per million output tokens of this run."""
    folder = run.with_name(run.name.removesuffix(f"-{Summary.read(run).scheme}"))
    if not Verdict.exists(folder):
        return DASH
    found = next((r for r in Verdict.read(folder).runs if r.run == name), None)
    cost = found.output_usd_per_mtok if found else None
    return DASH if cost is None else f"{cost:.3g}"
