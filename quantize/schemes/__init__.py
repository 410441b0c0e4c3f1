"""One small file a scheme. A new scheme: a module here with `make` and `load`, its name in SCHEMES and in MODULES."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from contracts.experiment import QuantizeSpec

# Scheme -> (module, the packages whose versions decide the outcome).
MODULES = {
    "none": ("quantize.schemes.original", ("transformers", "gguf")),
    "w8a8": ("quantize.schemes.w8a8", ("llmcompressor", "compressed-tensors", "torch")),
    "w4a16": ("quantize.schemes.w4a16", ("llmcompressor", "compressed-tensors", "torch")),
    "gptq-int4": ("quantize.schemes.gptq_int4", ("gptqmodel", "torch")),
    "gptq-int8": ("quantize.schemes.gptq_int8", ("gptqmodel", "torch")),
}
GROUPED = ("w4a16", "gptq-int4", "gptq-int8")

Recipe = dict[str, str | int | float | bool | list[str] | None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a scheme needs: the original's folder, where to write, the settings, calibration ids (windows, tokens)."""

    original: Path
    target: Path
    spec: QuantizeSpec
    calibration: NDArray[np.int64]
    group_size: int
    """Resolved: it divides the width of every layer."""


class Scheme(Protocol):
    """The two functions of a scheme's module."""

    def make(self, job: Job) -> Recipe:
        """Write the quantized weights into `job.target`; return every parameter as it was used."""

    def load(self, folder: Path) -> Any:
        """Load a finished checkpoint for evaluation, computing with what was packed."""


def scheme(name: str) -> Scheme:
    """Import a scheme's module."""
    return cast("Scheme", importlib.import_module(MODULES[name][0]))


def resolve_group_size(wanted: int, widths: tuple[int, ...]) -> int:
    """Return `wanted` when it divides every width (a layer's input features), else the largest power of two that does.

    Kernels exist for powers of two: a divisor such as 96 would make a checkpoint that nothing serves.
    """
    powers = [1 << k for k in reversed(range(wanted.bit_length())) if 1 << k <= wanted]
    return next(size for size in (wanted, *powers) if all(width % size == 0 for width in widths))
