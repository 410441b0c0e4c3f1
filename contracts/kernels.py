"""Which schemes the engine has no kernel for, by device: refused by name before anything is loaded."""

from __future__ import annotations

from contracts.errors import InputError
from contracts.quantize_spec import QuantizeSpec

_ON_CPUS = "w8a8 or bnb-int8 for 8 bits, gptq-int4, w4a16 or bnb-nf4 for 4"
NO_KERNEL = {"cpu": {"gptq-int8": _ON_CPUS, "fp8": _ON_CPUS}}
# Scheme -> (first compute capability that has a kernel, first that has none any more, what to use instead).
CAPABILITIES = {
    "w8a8": ((7, 5), (10, 0), "fp8 on newer GPUs, gptq-int8 on older ones"),
    "fp8": ((8, 0), None, "w8a8 or gptq-int8"),
    "w4a16": ((7, 5), None, "bnb-nf4"),
    "gptq-int4": ((6, 0), None, "bnb-nf4"),
    "gptq-int8": ((6, 0), None, "bnb-int8"),
}


def has_kernel(scheme: str, device: str) -> bool:
    """Tell whether vLLM can serve `scheme` on some machine of the kind `device` ("cpu" or "cuda")."""
    return scheme not in NO_KERNEL.get(device, {})


def refuse_without_kernel(scheme: str, device: str, capability: tuple[int, int] | None = None) -> None:
    """Raise InputError when vLLM has no kernel for `scheme` on `device`, naming the ones that have."""
    instead = NO_KERNEL.get(device, {}).get(scheme)
    here = device
    if instead is None and device == "cuda" and capability is not None and scheme in CAPABILITIES:
        first, last, other = CAPABILITIES[scheme]
        if capability < first or (last is not None and capability >= last):
            instead, here = other, f"a GPU of compute capability {capability[0]}.{capability[1]}"
    if instead:
        raise InputError(f"vLLM has no kernel for {scheme} on {here}", where="schemes", remedy=f"use {instead}")


def refuse_bits_without_kernel(spec: QuantizeSpec, scheme: str, device: str) -> None:
    """Raise InputError when an override gives layers bits that vLLM has no kernel for on `device`."""
    weight_only = scheme in {"gptq-int4", "w4a16"}
    rule = next((o for o in spec.overrides if o.bits == 8), None)
    if device == "cpu" and weight_only and rule is not None:
        raise InputError(
            f"vLLM has no kernel for the 8-bit layers of {scheme} on {device}",
            where=f"quantize.overrides: match: {rule.match}",
            remedy="use skip: true or a smaller group_size there, or serve it on a GPU",
        )
