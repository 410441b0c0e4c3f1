"""The smallest scheme that keeps the quality: every scheme of an experiment, by size, judged by its gate."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import write_bytes_atomic
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.quality_gate import judge_quality
from tokenhour.contracts.standalone.scheme_ladder import Ladder, Rung
from tokenhour.contracts.units import human_bytes
from tokenhour.machine.kernel_support import refusal
from tokenhour.machine.run_folder import RunDir, now_utc
from tokenhour.quantize.evaluation.statistics import with_interval

PLOT = "ladder"


def needs_gate(experiment: Experiment) -> None:
    """Raise InputError for an experiment whose gate sets no bound: everything would pass."""
    gate = experiment.quantize.gate
    if gate.max_mean_kl_divergence is None and gate.max_perplexity_ratio is None:
        raise InputError(
            "the quality gate sets no bound, so the smallest scheme would always be taken",
            where="quantize.gate",
            remedy="set max_mean_kl_divergence (such as 0.05) or max_perplexity_ratio (such as 1.03)",
        )


def climb(
    experiment: Experiment,
    found: Sequence[Checkpoint],
    device: Literal["cpu", "cuda"],
    capability: tuple[int, int] | None = None,
) -> Ladder:
    """Order the checkpoints by size and choose the smallest that passes and that `device` can serve.

    `capability`: the GPU's compute capability, where it is known.
    """
    spec = experiment.quantize
    rungs = sorted((rung(each, spec, device, capability) for each in found), key=lambda r: (r.weight_bytes, r.scheme))
    chosen = next((r.scheme for r in rungs if r.quality_gate == "PASS" and r.served), None)
    first = found[0].quality
    return Ladder(
        experiment=experiment.name,
        model_name=found[0].model_name,
        evaluation_text=first.evaluation.source if first else "",
        device=device,
        gate=spec.gate,
        rungs=tuple(rungs),
        chosen=chosen,
        inputs={f"checkpoint {c.scheme}": Checkpoint.sha256_in(Path(c.path)) for c in found},
        created_utc=now_utc(),
    )


def rung(checkpoint: Checkpoint, spec: QuantizeSpec, device: str, capability: tuple[int, int] | None = None) -> Rung:
    """Judge one checkpoint; it counts as served when `serving` would not refuse it for want of a kernel."""
    quality = checkpoint.quality
    if quality is None:
        raise InputError("it was never evaluated", where=checkpoint.path, remedy="quantize again")
    verdict, reasons = judge_quality(spec.gate, quality)
    return Rung(
        scheme=checkpoint.scheme,
        weight_bytes=checkpoint.weight_bytes,
        memory_bytes=checkpoint.memory_bytes,
        bits_per_weight=checkpoint.bits_per_weight,
        perplexity=quality.perplexity,
        perplexity_ratio=quality.perplexity_ratio,
        mean_kl_divergence=quality.mean_kl_divergence,
        top1_agreement=quality.top1_agreement,
        quality_gate="FAIL" if verdict == "FAIL" else "PASS",
        quality_reasons=reasons,
        served=refusal(spec, checkpoint.scheme, device, capability) is None,
        checkpoint_path=checkpoint.path,
    )


def keep(ladder: Ladder, run: RunDir) -> Path:
    """Write ladder.json and the plot into the experiment's folder; an older ladder is moved aside. Return the plot."""
    run.supersede(Ladder.file_name)
    ladder.write(run.path)
    for kind in ("svg", "png"):
        write_bytes_atomic(run.path / "plots" / f"{PLOT}.{kind}", draw(ladder, kind))
    run.note("ladder", "done", ladder.chosen or "none passes")
    return run.path / "plots" / f"{PLOT}.png"


def table(ladder: Ladder) -> str:
    """Write the ladder as Markdown: it reads on a terminal too."""
    lines = [
        "| scheme | weights | bits | perplexity x | mean KL [95 %] | same top-1 | gate | served |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in ladder.rungs:
        mark = " <- smallest that passes" if r.scheme == ladder.chosen else ""
        lines.append(
            f"| {r.scheme} | {human_bytes(r.weight_bytes)} | {r.bits_per_weight:.1f} | {r.perplexity_ratio:.3f} | "
            f"{with_interval(r.mean_kl_divergence, '.4f')} | {r.top1_agreement.value:.1%} | {r.quality_gate} | "
            f"{'yes' if r.served else f'no kernel on {ladder.device}'} |{mark}"
        )
    return "\n".join(lines)


def draw(ladder: Ladder, kind: str) -> bytes:
    """Plot quality against bytes; `kind` is svg or png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "tokenhour", "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True}):
        figure, axis = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
        for r in ladder.rungs:
            _point(axis, r, chosen=r.scheme == ladder.chosen)
        bound = ladder.gate.max_mean_kl_divergence
        if bound is not None:
            axis.axhline(bound, color="#333333", linestyle="--", linewidth=1)
            axis.annotate(f"gate: {bound:g}", (1, bound), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        # The original's loss is zero: linear near it, logarithmic above.
        axis.set_yscale("symlog", linthresh=1e-3)
        axis.set_ylim(bottom=0)
        axis.margins(x=0.15)
        axis.set(
            xlabel="weights on disk, MB",
            ylabel="mean KL to the original, nats a token",
            title=f"{ladder.model_name}: quality loss against size",
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)
        plt.close(figure)
    return buffer.getvalue()


def _point(axis: Any, r: Rung, *, chosen: bool) -> None:
    kl = r.mean_kl_divergence
    low, high = kl.low if kl.low is not None else kl.value, kl.high if kl.high is not None else kl.value
    passed = r.quality_gate == "PASS"
    axis.errorbar(
        [r.weight_bytes / 1e6],
        [kl.value],
        yerr=[[kl.value - low], [high - kl.value]],
        # Okabe & Ito's green and vermilion; the form says it as well.
        color="#009E73" if passed else "#D55E00",
        marker="o" if passed else "X",
        markersize=10 if chosen else 7,
        markerfacecolor=None if r.served else "white",
        capsize=3,
    )
    text = r.scheme + (" (smallest that passes)" if chosen else "" if r.served else " (no kernel here)")
    axis.annotate(text, (r.weight_bytes / 1e6, kl.value), xytext=(7, 5), textcoords="offset points", fontsize=9)
