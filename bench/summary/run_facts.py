"""What a summary is about: the facts beside the measurement, from whichever records the run folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.endpoint import Endpoint, Load
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.quality_gate import judge_quality
from tokenhour.contracts.records.server import Server


@dataclass(frozen=True, slots=True)
class Subject:
    """The served model, its engine and its quality, as far as they are known."""

    run: str
    scheme: str
    model_name: str
    engine: str
    accelerator: Accelerator
    accelerators_used: int
    bench: BenchSpec
    bytes_per_checkpoint: int = 0
    perplexity_ratio: float | None = None
    mean_kl_divergence: float | None = None
    quality_gate: Literal["PASS", "FAIL", "none"] = "none"
    cold_start_s: float | None = None
    synthetic: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be measured exactly there."""
    exact_output: bool = True
    """Whether the server was told to give exactly the requested lengths."""
    exact_prompts: bool = True
    engine_counters: bool = True
    """Whether its engine should have counters to hold the usage against; where it has none, `notes` says so."""
    gpus_read: bool = False
    """Whether its GPUs should have been sampled: they are this machine's."""


def of_server(experiment: Experiment, checkpoint: Checkpoint, server: Server) -> Subject:
    """Describe the server of an experiment."""
    quality = checkpoint.quality
    return Subject(
        run=experiment.run_name(server.scheme),
        scheme=server.scheme,
        model_name=checkpoint.model_name,
        engine=server.engine,
        # Older records count there what the machine has.
        accelerator=server.accelerator.model_copy(update={"count": server.accelerators}),
        accelerators_used=server.accelerators,
        bench=experiment.bench,
        bytes_per_checkpoint=checkpoint.weight_bytes,
        perplexity_ratio=quality.perplexity_ratio if quality else None,
        mean_kl_divergence=quality.mean_kl_divergence.value if quality else None,
        quality_gate=judge_quality(experiment.quantize.gate, quality)[0],
        cold_start_s=server.cold_start.ready_s,
        synthetic=server.synthetic,
        gpus_read=server.accelerator.kind == "cuda",
    )


def of_endpoint(load: Load, found: Endpoint) -> Subject:
    """Describe an endpoint that somebody else runs."""
    return Subject(
        run=load.name,
        scheme="endpoint",
        model_name=found.model_id,
        engine=found.engine,
        accelerator=found.accelerator,
        accelerators_used=found.accelerator.count,
        bench=load,
        notes=found.degraded,
        exact_output=found.exact_output,
        exact_prompts=found.token_ids or found.tokenizer is not None,
        engine_counters=found.engine_counters,
    )
