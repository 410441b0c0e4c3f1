"""What a GPU proof did: every step with its outcome, what the engine said that it loaded, figures beside published ones.

History
    1  first version; later with a step's `applicable`, which older records lack
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.record import Part, Record
from tokenhour.contracts.records.environment import Accelerator

StepState = Literal["done", "reused", "invalid", "failed", "skipped"]


class ProofStep(Part):
    """One step."""

    name: str
    state: StepState
    detail: str = ""
    """Why it was skipped, failed or is INVALID."""
    applicable: bool = True
    """False where this machine or this model cannot do it at all: then it leaves nothing undone."""
    seconds: float


class Loaded(Part):
    """What the engine's log says of one precision: a silent fall-back would be measured under a wrong name."""

    scheme: str
    quantization: str | None
    kernels: tuple[str, ...]
    """Its lines about kernels and attention backends."""


class Deviation(Part):
    """A measured saturated rate beside a published one."""

    run: str
    output_tps_per_gpu: float
    published_low: float
    published_high: float
    deviation: float
    """Share outside the published range; 0 inside it, negative below."""
    within: bool
    """No further outside than the tolerance."""
    source: str


class Proof(Record):
    """The record of a GPU proof."""

    file_name: ClassVar[str] = "proof.json"
    record: Literal["proof"] = "proof"
    version: Literal[1] = 1
    name: str
    model: str
    weights: Literal["real", "dummy"]
    """`dummy`: random ones of the model's shape. Sound for throughput, silent about quality."""
    device: Literal["cpu", "cuda"]
    accelerator: Accelerator
    quick: bool
    """Started without compilation and measured on one mix: for gates, not for headlines."""
    budget_s: float
    spent_s: float
    """Of this call; a proof that was gone on with took more."""
    steps: tuple[ProofStep, ...]
    loaded: tuple[Loaded, ...]
    published: tuple[Deviation, ...]
    runs: tuple[str, ...]
    """Folders of the runs beside this one."""
    complete: bool
    """Every precision that this machine has kernels for was measured, VALID."""
    inputs: dict[str, str]
    """sha256 of each run's summary."""
    created_utc: str
