"""Which schemes keep the quality that an experiment asks for, and the smallest of them.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.record import Interval, Part, Record


class Rung(Part):
    """One scheme: its size and what it costs in quality."""

    scheme: str
    weight_bytes: int
    memory_bytes: int
    bits_per_weight: float
    perplexity: Interval
    perplexity_ratio: float
    mean_kl_divergence: Interval
    top1_agreement: Interval
    quality_gate: Literal["PASS", "FAIL"]
    quality_reasons: tuple[str, ...]
    served: bool
    """The engine has a kernel for it on `device`; only such a scheme is chosen."""
    checkpoint_path: str


class Ladder(Record):
    """All schemes of an experiment, smallest first, and the smallest that passes the gate and can be served."""

    file_name: ClassVar[str] = "ladder.json"
    record: Literal["ladder"] = "ladder"
    version: Literal[1] = 1
    experiment: str
    model_name: str
    evaluation_text: str
    device: Literal["cpu", "cuda"]
    gate: QualityGate
    rungs: tuple[Rung, ...]
    chosen: str | None
    """None when no scheme passes."""
    inputs: dict[str, str]
    """sha256 of each checkpoint.json."""
    created_utc: str
