"""How `w4a16` rounds: AutoRound for what it was tried on, GPTQ for all else. Rules over a model's config and layers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InputError
from contracts.quantize_spec import QuantizeSpec
from quantize.layers import AS_USUAL, HEAD, Layers, linear_shapes

WHERE, REMEDY = "quantize.w4a16_method", "use w4a16_method: gptq"
# Architectures of which small random models lost less by AutoRound, or as little, as by GPTQ: docs/quantize-tried.md.
TRIED = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "olmo2", "granite", "smollm3"})
# The fewest that it was tried with. What is learned from few fits those few.
LEAST_TOKENS = 4096
# AutoRound passes over a layer with another width or height.
_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Decoder:
    """What of a model decides whether AutoRound can learn its rounding."""

    kind: str
    """`model_type` of its config."""
    layer_kinds: frozenset[str]
    """Kinds of attention, where the config names them."""
    beside_text: bool
    """It reads images or sound too."""
    shapes: Mapping[str, tuple[int, int]]
    """(in, out) of each linear layer."""


def decoder_of(folder: Path, *, trusted: bool = False) -> Decoder:
    """Read what decides from a model's config."""
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    return Decoder(
        kind=str(config.get("model_type")),
        layer_kinds=frozenset(text.get("layer_types") or ()),
        beside_text=any(key in config for key in ("vision_config", "audio_config", "text_config")),
        shapes=linear_shapes(folder, trusted=trusted),
    )


def settle(
    name: str, spec: QuantizeSpec, folder: Path, layers: Layers, *, trusted: bool = False
) -> tuple[QuantizeSpec, tuple[str, ...]]:
    """Return the settings with w4a16's method settled, and a note when GPTQ takes the place of AutoRound unasked.

    Raises InputError when AutoRound was asked for and cannot learn the model in `folder`.
    """
    if name != "w4a16" or spec.w4a16_method == "gptq":
        return spec, ()
    decoder = decoder_of(folder, trusted=trusted)
    cannot = obstacle(decoder, layers)
    if cannot and spec.w4a16_method:
        raise InputError(f"AutoRound cannot learn {cannot}", where=WHERE, remedy=REMEDY)
    why = f"it cannot learn {cannot}" if cannot else untried(spec, decoder)
    if spec.w4a16_method or not why:
        return spec.model_copy(update={"w4a16_method": "autoround"}), ()
    return spec.model_copy(update={"w4a16_method": "gptq"}), (f"GPTQ in place of AutoRound, which loses less: {why}",)


def obstacle(decoder: Decoder, layers: Layers) -> str | None:
    """Say what of a model AutoRound cannot learn.

    It replays the first block's mask and positions for every block, counts the windows of models that read images
    otherwise, and leaves layers of odd sizes as they are.
    """
    if decoder.beside_text:
        return "models that read more than text"
    if len(decoder.layer_kinds) > 1:
        return f"models whose layers differ: {', '.join(sorted(decoder.layer_kinds))}"
    wanted = {n: shape for n, shape in decoder.shapes.items() if n != HEAD and not layers.get(n, AS_USUAL).skip}
    for name, shape in wanted.items():
        if any(side % _MULTIPLE for side in shape):
            return f"layers whose sides are no multiples of {_MULTIPLE}: {name} has {shape[0]} x {shape[1]}"
    return None


def untried(spec: QuantizeSpec, decoder: Decoder) -> str | None:
    """Say why AutoRound is not taken unasked: it was not tried like this, or settings of GPTQ are set."""
    if decoder.kind not in TRIED:
        return f"it was not tried on models of type {decoder.kind}"
    tokens = spec.calibration.windows * spec.calibration.window_tokens
    if tokens < LEAST_TOKENS:
        return f"it was not tried with fewer than {LEAST_TOKENS} tokens of calibration, and here are {tokens}"
    defaults = QuantizeSpec()
    own = [key for key in ("act_order", "scale_search", "dampening") if getattr(spec, key) != getattr(defaults, key)]
    return f"{', '.join(own)} is GPTQ's" if own else None
