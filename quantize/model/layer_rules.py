"""Which layers are treated differently: `ignore` and `overrides`, resolved to the names of the model's own layers.

Every library has pattern rules of its own (which rule wins, what a name is matched against); names leave nothing to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.config.model_quantize import GROUP_SIZES, LayerOverride, QuantizeSpec
from tokenhour.contracts.errors import InputError

# Engines compute these as one layer, which then can have only one precision and one group size.
TOGETHER = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
# Never quantized by these libraries unless asked for; a model that ties it to the embeddings has no such layer.
HEAD = "lm_head"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is different for one layer; absent: as for all others."""

    skip: bool = False
    bits: int | None = None
    group_size: int | None = None


AS_USUAL = Treatment()
Layers = Mapping[str, Treatment]
"""The layers that are treated differently, by name."""


def linear_layers(folder: Path, *, trusted: bool = False) -> dict[str, int]:
    """Return the model's linear layers and their input widths, as transformers names them; no weights are read."""
    return {name: width for name, (width, _) in linear_shapes(folder, trusted=trusted).items()}


def linear_shapes(folder: Path, *, trusted: bool = False) -> dict[str, tuple[int, int]]:
    """Return (in, out) of each of the model's linear layers; no weights are read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return {name: (module.in_features, module.out_features) for name, module in linear.items()}


def special(spec: QuantizeSpec) -> bool:
    """Tell whether any layer but the head is treated differently."""
    return bool(spec.overrides) or set(spec.ignore) != {HEAD}


def wants_head(spec: QuantizeSpec) -> bool:
    """Tell whether the head is to be packed too: nothing in `ignore` names it."""
    return not any(_ignores(item, HEAD) for item in spec.ignore)


def resolve(spec: QuantizeSpec, widths: Mapping[str, int]) -> dict[str, Treatment]:
    """Return what is treated differently of the layers in `widths` (name -> input width).

    `ignore` goes before `overrides`, of which the first that matches counts. Raises InputError for a rule that matches
    no layer, and for layers that engines compute as one when their treatments differ.
    """
    _refuse_idle_rules(spec, widths)
    found = {name: _treatment(spec, name, width) for name, width in widths.items()}
    _refuse_split(found)
    return {name: treatment for name, treatment in found.items() if treatment != AS_USUAL}


def _treatment(spec: QuantizeSpec, name: str, width: int) -> Treatment:
    if any(_ignores(item, name) for item in spec.ignore):
        return Treatment(skip=True)
    rule = next((o for o in spec.overrides if re.search(o.match, name)), None)
    return AS_USUAL if rule is None else Treatment(rule.skip, rule.bits, group_below(rule, width))


def _ignores(item: str, name: str) -> bool:
    if item.startswith("re:"):
        return re.match(item[3:], name) is not None
    return name == item or name.endswith(f".{item}")


def group_below(rule: LayerOverride, width: int) -> int | None:
    """Return the rule's group size, or the largest below that kernels have and that divides `width`."""
    wanted = rule.group_size
    return None if wanted is None else fitting_group(wanted, (width,), f"quantize.overrides: match: {rule.match}")


def fitting_group(wanted: int, widths: Iterable[int], where: str) -> int:
    """Return the largest group size up to `wanted` that kernels have and that divides all `widths`; InputError for none."""
    asked = sorted(set(widths))
    for size in GROUP_SIZES:
        if size <= wanted and all(width % size == 0 for width in asked):
            return size
    raise InputError(
        f"no group size up to {wanted} divides the widths {asked}: kernels have {', '.join(map(str, sorted(GROUP_SIZES)))}",
        where=where,
        remedy="use a scheme without groups: w8a8, fp8, bnb-int8 or bnb-nf4",
    )


def _refuse_idle_rules(spec: QuantizeSpec, widths: Mapping[str, int]) -> None:
    remedy = f"the model's layers have names such as {next(iter(widths), 'model.layers.0.mlp.down_proj')}"
    for item in spec.ignore:
        if item != HEAD and not any(_ignores(item, name) for name in widths):
            raise InputError("matches no layer", where=f"quantize.ignore: {item}", remedy=remedy)
    for rule in spec.overrides:
        if not any(re.search(rule.match, name) for name in widths):
            raise InputError("matches no layer", where=f"quantize.overrides: match: {rule.match}", remedy=remedy)


def _refuse_split(found: Mapping[str, Treatment]) -> None:
    for whole, parts in _wholes(found).items():
        if len({found[part] for part in parts}) > 1:
            last = [part.rsplit(".", 1)[-1] for part in parts]
            raise InputError(
                f"{', '.join(last)} of {whole.rsplit('.', 1)[0]} are computed as one layer and must be treated alike",
                where="quantize.overrides",
                remedy=f"write a rule that matches all of them, such as ({'|'.join(last)})",
            )


def _wholes(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the layers that an engine makes of several, by the name it gives them, with their parts' names here."""
    found: dict[str, list[str]] = {}
    for whole, parts in TOGETHER.items():
        for name in names:
            parent, _, last = name.rpartition(".")
            if last in parts:
                found.setdefault(f"{parent}.{whole}", []).append(name)
    return found


def with_wholes(layers: Layers) -> dict[str, Treatment]:
    """Add the names under which engines look for layers that they compute as one."""
    return {**layers, **{whole: layers[parts[0]] for whole, parts in _wholes(layers).items()}}


def left_alone(spec: QuantizeSpec, layers: Layers) -> list[str]:
    """Return the names that stay in their original precision; the head with them where it is only ignored."""
    names = [name for name, treatment in layers.items() if treatment.skip]
    return names if HEAD in names or HEAD not in spec.ignore else [HEAD, *names]


def group_notes(layers: Layers, spec: QuantizeSpec) -> tuple[str, ...]:
    """Say which groups of the overrides became smaller than asked for."""
    found = []
    for rule in spec.overrides:
        own = {t.group_size for name, t in layers.items() if re.search(rule.match, name) and t.group_size} - {
            rule.group_size
        }
        if rule.group_size and own:
            asked = f"instead of {rule.group_size}, for kernels and width"
            found.append(f"overrides, {rule.match}: groups of {min(own)} {asked}")
    return tuple(found)


def said(spec: QuantizeSpec) -> dict[str, list[str]]:
    """Write the rules for a recipe."""
    rules = []
    for rule in spec.overrides:
        parts = [f"{rule.bits} bits" if rule.bits else "", f"groups of {rule.group_size}" if rule.group_size else ""]
        rules.append(f"{rule.match}: {'original precision' if rule.skip else ', '.join(p for p in parts if p)}")
    return {"ignore": list(spec.ignore), "overrides": rules}
