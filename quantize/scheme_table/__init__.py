"""What each scheme is and needs; `make` and `load` are in its module in `schemes/`, named in MODULES here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.model_quantize import GROUP_SIZES, QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.layer_rules import Layers, fitting_group

_COMPRESSOR = ("llmcompressor", "compressed-tensors", "transformers", "torch")
_GPTQ = ("gptqmodel", "transformers", "torch")
_BNB = ("bitsandbytes", "transformers", "torch")
# Scheme -> (module, the packages whose versions decide the outcome).
MODULES = {
    "none": ("tokenhour.quantize.schemes.none", ("transformers", "gguf")),
    "w8a8": ("tokenhour.quantize.schemes.w8a8", _COMPRESSOR),
    "w4a16": ("tokenhour.quantize.schemes.w4a16", ("auto-round", *_COMPRESSOR)),
    "fp8": ("tokenhour.quantize.schemes.fp8", _COMPRESSOR),
    "gptq-int4": ("tokenhour.quantize.schemes.gptq_int4", _GPTQ),
    "gptq-int8": ("tokenhour.quantize.schemes.gptq_int8", _GPTQ),
    "bnb-int8": ("tokenhour.quantize.schemes.bnb_int8", _BNB),
    "bnb-nf4": ("tokenhour.quantize.schemes.bnb_nf4", _BNB),
}
GROUPED = ("w4a16", "gptq-int4", "gptq-int8")
# These look at the weights alone: no calibration text is read, or recorded.
UNCALIBRATED = ("none", "fp8", "bnb-int8", "bnb-nf4")

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
    trusted: bool = False
    """Python that comes with the weights may run."""
    layers: Layers = field(default_factory=dict)
    """What `ignore` and `overrides` come to, by the layers' names; the head is not among them when it is only ignored."""


class Scheme(Protocol):
    """The two functions of a scheme's module."""

    def make(self, job: Job) -> Recipe:
        """Write the quantized weights into `job.target`; return every parameter as it was used."""

    def load(self, folder: Path, *, trusted: bool = False) -> Any:
        """Load a packed checkpoint for evaluation, computing with what was packed."""


def scheme(name: str) -> Scheme:
    """Import a scheme's module."""
    return cast("Scheme", importlib.import_module(MODULES[name][0]))


def check(name: str, spec: QuantizeSpec) -> None:
    """Raise InputError for a setting that the scheme does not have."""
    needs_groups = [o for o in spec.overrides if not o.skip]
    if needs_groups and name not in (*GROUPED, "none"):
        raise InputError(
            f"{name} cannot give layers other bits or groups",
            where="quantize.overrides",
            remedy=f"use skip: true, or one of {', '.join(GROUPED)}",
        )
    if spec.symmetric is False and name not in ("w4a16", "none"):
        raise InputError(f"{name} is symmetric", where="quantize.symmetric", remedy="use w4a16, or leave it out")


def resolve_group_size(wanted: int, widths: tuple[int, ...]) -> int:
    """Return the largest group size up to `wanted` that kernels have and that divides every layer's input width.

    Raises InputError for none. A divisor such as 96 would make a checkpoint that nothing packs or serves.
    """
    return fitting_group(wanted, widths, "quantize.group_size")


def group_note(name: str, wanted: int, group: int, widths: tuple[int, ...]) -> tuple[str, ...]:
    """Say that a scheme's groups became smaller than asked for, and why."""
    if name not in GROUPED or group == wanted:
        return ()
    why = f"does not divide the widths {sorted(set(widths))}" if wanted in GROUP_SIZES else "no kernel has"
    return (f"group size {group} instead of {wanted}, which {why}",)
