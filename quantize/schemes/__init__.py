"""One small file a scheme. A new scheme: a module here with `make` and `load`, its name in SCHEMES and in MODULES."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InputError
from contracts.quantize_spec import QuantizeSpec

_COMPRESSOR = ("llmcompressor", "compressed-tensors", "torch")
_GPTQ = ("gptqmodel", "torch")
_BNB = ("bitsandbytes", "transformers", "torch")
# Scheme -> (module, the packages whose versions decide the outcome).
MODULES = {
    "none": ("quantize.schemes.original", ("transformers", "gguf")),
    "w8a8": ("quantize.schemes.w8a8", _COMPRESSOR),
    "w4a16": ("quantize.schemes.w4a16", _COMPRESSOR),
    "fp8": ("quantize.schemes.fp8", _COMPRESSOR),
    "gptq-int4": ("quantize.schemes.gptq_int4", _GPTQ),
    "gptq-int8": ("quantize.schemes.gptq_int8", _GPTQ),
    "bnb-int8": ("quantize.schemes.bnb_int8", _BNB),
    "bnb-nf4": ("quantize.schemes.bnb_nf4", _BNB),
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
    """Return `wanted` when it divides every width (a layer's input features), else the largest power of two that does.

    Kernels exist for powers of two: a divisor such as 96 would make a checkpoint that nothing serves.
    """
    powers = [1 << k for k in reversed(range(wanted.bit_length())) if 1 << k <= wanted]
    return next(size for size in (wanted, *powers) if all(width % size == 0 for width in widths))


def skipped(spec: QuantizeSpec) -> list[str]:
    """Return the layers to leave alone, as names and as `re:` patterns that match a whole name from its start."""
    return [*spec.ignore, *(f"re:{anchored(o.match)}" for o in spec.overrides if o.skip)]


def anchored(pattern: str) -> str:
    """Turn a pattern that is searched into one for matchers that begin at the start of a name."""
    return f".*(?:{pattern})"


def skipped_names(spec: QuantizeSpec, names: list[str]) -> list[str]:
    """Resolve `skipped` to the layer names that it stands for, for libraries that know no patterns."""
    patterns = [item[3:] if item.startswith("re:") else rf"(?:.*\.)?{re.escape(item)}$" for item in skipped(spec)]
    return [name for name in names if any(re.match(pattern, name) for pattern in patterns)]
