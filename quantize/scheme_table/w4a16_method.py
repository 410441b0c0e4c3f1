"""How `w4a16` rounds: AutoRound for what it was tried on, GPTQ for all else. Rules over a model's config and layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.layer_rules import AS_USUAL, HEAD, Layers, linear_shapes

WHERE, REMEDY = "quantize.w4a16_method", "use w4a16_method: gptq"
VERSION = 1
"""Hashed into w4a16's recipe: raise it with every change that gives the same settings another method or other weights."""
# Architectures of which small random models lost less by AutoRound than by GPTQ: docs/quantize-tried.md.
TRIED = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite", "smollm3"})
# The fewest that a real model was tried with. What is learned from few fits those few.
LEAST_TOKENS = 4096
# AutoRound passes over a layer with another width or height.
_MULTIPLE = 32
# What makes AutoRound take a model for one that reads more than text: files, and parts of the config's keys.
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_SENSES = ("vision", "visual", "image", "img", "audio", "speech", "wav")
_GPTQS_OWN = ("act_order", "scale_search", "dampening")


@dataclass(frozen=True, slots=True)
class Decoder:
    """What of a model decides whether AutoRound can learn its rounding."""

    layer_kinds: frozenset[str]
    """Kinds of attention, where the architecture has several."""
    beside_text: bool
    """AutoRound takes it for a model that reads images or sound too."""
    shapes: Mapping[str, tuple[int, int]]
    """(in, out) of each linear layer."""


def settle(
    name: str, spec: QuantizeSpec, folder: Path, layers: Layers, *, trusted: bool = False
) -> tuple[QuantizeSpec, tuple[str, ...]]:
    """Return the settings with w4a16's method settled, and notes on what the settings did not ask for.

    Raises InputError when AutoRound was asked for and cannot learn the model in `folder`.
    """
    if name != "w4a16" or spec.w4a16_method == "gptq":
        return spec, ()
    asked = spec.w4a16_method is not None
    why = None if asked else untried(spec, kind_of(folder))
    if why is None and (cannot := obstacle(decoder_of(folder, trusted=trusted), layers)):
        why = f"AutoRound cannot learn {cannot}"
        if asked:
            raise InputError(why, where=WHERE, remedy=REMEDY)
    if why:
        return spec.model_copy(update={"w4a16_method": "gptq"}), (f"GPTQ, as {why}",)
    unread = f"AutoRound does not read {', '.join(own)}" if (own := _gptqs_own(spec)) else None
    return spec.model_copy(update={"w4a16_method": "autoround"}), ((unread,) if unread else ())


def kind_of(folder: Path) -> str:
    """Read the `model_type` of a model's config."""
    return str(json.loads((folder / "config.json").read_text()).get("model_type"))


def decoder_of(folder: Path, *, trusted: bool = False) -> Decoder:
    """Read what decides; what a config leaves to its architecture is the architecture's. No weights are read.

    Raises InputError for a model that cannot be built without its weights.
    """
    from transformers import AutoConfig

    keys = json.loads((folder / "config.json").read_text()).keys()
    processors = any((folder / name).exists() for name in _PROCESSORS)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)
        shapes = linear_shapes(folder, trusted=trusted)
    except Exception as error:  # remote code may fail in any way
        what = f"its layers cannot be listed without its weights: {type(error).__name__}: {error}"
        raise InputError(what, where=str(folder), remedy=REMEDY) from error
    return Decoder(
        layer_kinds=frozenset(getattr(config.get_text_config(), "layer_types", None) or ()),
        beside_text=processors or any(sense in key for key in keys for sense in _SENSES),
        shapes=shapes,
    )


def obstacle(decoder: Decoder, layers: Layers) -> str | None:
    """Say what of a model AutoRound cannot learn.

    It replays the first block's mask and positions for every block, counts the windows of models that read images
    otherwise, and leaves layers of odd sizes as they are.
    """
    if decoder.beside_text:
        return "models that read more than text"
    if len(decoder.layer_kinds) > 1:
        return f"models whose layers differ ({', '.join(sorted(decoder.layer_kinds))})"
    wanted = {n: shape for n, shape in decoder.shapes.items() if n != HEAD and not layers.get(n, AS_USUAL).skip}
    for name, shape in wanted.items():
        if any(side % _MULTIPLE for side in shape):
            return f"layers with a side that is no multiple of {_MULTIPLE} ({name}: {shape[0]} x {shape[1]})"
    return None


def untried(spec: QuantizeSpec, kind: str) -> str | None:
    """Say why AutoRound is not taken unasked: it was not tried like this, or settings of GPTQ are set."""
    if kind not in TRIED:
        return f"AutoRound was not tried on models of type {kind}"
    tokens = spec.calibration.windows * spec.calibration.window_tokens
    if tokens < LEAST_TOKENS:
        return f"AutoRound was not tried with fewer than {LEAST_TOKENS} tokens of calibration (here {tokens})"
    own = _gptqs_own(spec)
    return f"AutoRound does not read {', '.join(own)}" if own else None


def _gptqs_own(spec: QuantizeSpec) -> list[str]:
    defaults = QuantizeSpec()
    return [key for key in _GPTQS_OWN if getattr(spec, key) != getattr(defaults, key)]
