"""Refuse before anything is written when disk, memory or device memory will not suffice."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import make_folder
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.units import human_bytes
from tokenhour.machine.hardware import accelerator, available_memory_bytes
from tokenhour.quantize.source.hub import Download

# Interpreter, torch and the quantizer's libraries, resident before any weight is loaded.
_LIBRARIES_BYTES = 900_000_000
# Memory that evaluating an original takes, in sizes of its bf16 files: its fp32 weights are two, its activations the rest.
COPIES = 3
# The same for making a quantized one from it, or for unpacking a GGUF file: fp32 twice, bf16 once.
QUANTIZING_COPIES = 5


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """What of a decoder decides how much memory a pass over it takes."""

    hidden: int
    intermediate: int
    heads_width: int
    """Heads x head width: the input of the attention's output projection."""
    layers: int
    vocabulary: int

    @property
    def widths(self) -> tuple[int, int, int]:
        """Input widths of the linear layers."""
        return self.hidden, self.intermediate, self.heads_width


def decoder_shape(folder: Path) -> DecoderShape:
    """Read a decoder's shape from its config.json; InputError for a model that is none."""
    file = folder / "config.json"
    try:
        whole = json.loads(file.read_text())
        config = whole.get("text_config", whole)
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return DecoderShape(
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads_width=heads * int(config.get("head_dim") or hidden // heads),
            layers=int(config["num_hidden_layers"]),
            vocabulary=int(config["vocab_size"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"not the config of a decoder-only language model: {error!r}",
            where=str(file),
            remedy="name a causal language model in the transformers format",
        ) from error


def preflight(place: Path, disk_bytes: int, memory_needed_bytes: int) -> None:
    """Raise InputError when the disk below `place` or the memory that is free now is less than what is needed."""
    make_folder(place)
    free = shutil.disk_usage(place).free
    if free < disk_bytes:
        raise InputError(
            f"{human_bytes(disk_bytes)} of disk are needed, {human_bytes(free)} are free",
            where=str(place),
            remedy="free some space, or name another folder with --checkpoints",
        )
    needed, have = memory_needed_bytes + _LIBRARIES_BYTES, available_memory_bytes()
    if have < needed:
        raise InputError(
            f"about {human_bytes(needed)} of memory are needed, {human_bytes(have)} are free",
            remedy="close other programs, or use a larger machine or a smaller model",
        )


def preflight_download(place: Path, found: Download, copies: int = COPIES) -> None:
    """Raise InputError, before a hub is asked to send it, when a model or its copy below `place` will not fit."""
    cache, target = _standing(found.cache), _standing(place)
    shared = cache.stat().st_dev == target.stat().st_dev
    needed = found.missing_bytes + (found.weight_bytes if shared else 0)
    free = shutil.disk_usage(cache).free
    if free < needed:
        raise InputError(
            f"{human_bytes(needed)} of disk are needed to fetch the model{' and to copy its weights' if shared else ''}, "
            f"{human_bytes(free)} are free",
            where=str(found.cache),
            remedy="free some space, or name a folder on another disk in HF_HOME",
        )
    preflight(place, found.weight_bytes, found.weight_bytes * copies)


def _standing(place: Path) -> Path:
    """Return the folder itself, or the nearest one above it that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


def preflight_device(
    shape: DecoderShape, weight_bytes: int, spec: QuantizeSpec, here: Accelerator | None = None, *, learned: bool = False
) -> None:
    """Raise InputError when one layer's calibration will not fit on the GPU; without a GPU nothing is asked."""
    found = here or accelerator()
    needed = device_bytes(shape, weight_bytes, spec, learned=learned)
    if found.kind == "cuda" and found.memory_bytes < needed:
        raise InputError(
            f"about {human_bytes(needed)} of GPU memory are needed to calibrate, {found.name} has "
            f"{human_bytes(found.memory_bytes)}",
            where="quantize.calibration",
            remedy=f"ask for fewer or shorter windows, {'take quantize.w4a16_method: gptq, ' if learned else ''}"
            "hide the GPU (put CUDA_VISIBLE_DEVICES= first) or use a larger one",
        )


def device_bytes(shape: DecoderShape, weight_bytes: int, spec: QuantizeSpec, *, learned: bool = False) -> int:
    """Estimate the GPU memory of a layer-by-layer calibration, bytes.

    The embeddings and one decoder layer (bf16, the layer twice while it is replaced), a Hessian and its inverse for each of
    a layer's four kinds of input (fp32), and the activations of all windows before and after the layer (bf16).
    Where the rounding is `learned`: 32 bytes for each weight of the layer (itself, what is learned for it, the best so far,
    their gradients and what the rounding keeps for them), the activations of all windows four times, and what one step of
    four windows keeps of them, all in fp32. By reading AutoRound, not measured.
    """
    embeddings = 2 * 2 * shape.vocabulary * shape.hidden
    layer = max(weight_bytes - embeddings, 0) // shape.layers
    hessians = 2 * 4 * (2 * shape.hidden**2 + shape.heads_width**2 + shape.intermediate**2)
    activations = 2 * 2 * spec.calibration.windows * spec.calibration.window_tokens * shape.hidden
    by_gptq = embeddings + 2 * layer + hessians + activations
    step = 2 * 4 * 4 * spec.calibration.window_tokens * (8 * shape.hidden + 4 * shape.intermediate)
    # Another scheme of the same run may calibrate by GPTQ.
    return max(by_gptq, 16 * layer + 4 * activations + step) if learned else by_gptq
