"""Which schemes the engine has no kernel for, by device: refused by name before anything is loaded."""

from __future__ import annotations

from collections.abc import Collection

from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.machine import hardware

_ON_CPUS = "w8a8 or bnb-int8 for 8 bits, gptq-int4, w4a16 or bnb-nf4 for 4"
NO_KERNEL = {"cpu": {"gptq-int8": _ON_CPUS, "fp8": _ON_CPUS}}
# vLLM's build for x86 CPUs with AVX2 alone lacks the kernel of packed integers (cpu_gemm_wna16), and finds that out with the
# first request.
_AVX512 = frozenset({"gptq-int4", "w4a16"})
_WITHOUT_AVX512 = "w8a8 or bnb-int8 for 8 bits, bnb-nf4 for 4"
_INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
# Scheme -> (first compute capability that has a kernel, first that has none any more).
CAPABILITIES: dict[str, tuple[tuple[int, int], tuple[int, int] | None]] = {
    "w8a8": ((7, 5), (10, 0)),
    "fp8": ((8, 0), None),
    "w4a16": ((7, 5), None),
    "gptq-int4": ((6, 0), None),
    "gptq-int8": ((6, 0), None),
}
# What is offered instead on a GPU, of those that have a kernel there: the same bits, the closest kind first.
_INSTEAD_ON_GPUS = {
    "w8a8": ("fp8", "gptq-int8", "bnb-int8"),
    "fp8": ("w8a8", "gptq-int8", "bnb-int8"),
    "w4a16": ("gptq-int4", "bnb-nf4"),
    "gptq-int4": ("bnb-nf4",),
    "gptq-int8": ("bnb-int8",),
}


def has_kernel(
    scheme: str, device: str, flags: Collection[str] | None = None, capability: tuple[int, int] | None = None
) -> bool:
    """Tell whether vLLM can serve `scheme` on a machine of the kind `device` ("cpu" or "cuda").

    `flags`: the CPU's instruction sets; absent: this machine's, none: some CPU's.
    """
    return _instead(scheme, device, flags, capability) is None


def _instead(
    scheme: str, device: str, flags: Collection[str] | None, capability: tuple[int, int] | None
) -> tuple[str, str] | None:
    """Return (where there is no kernel, what to use there), or None."""
    if device == "cuda" and capability is not None and not _on_gpus(scheme, capability):
        others = [name for name in _INSTEAD_ON_GPUS[scheme] if _on_gpus(name, capability)]
        return f"a GPU of compute capability {capability[0]}.{capability[1]}", " or ".join(others)
    have = hardware.cpu_flags() if flags is None else flags
    old = device == "cpu" and "avx2" in have and "avx512f" not in have
    if instead := NO_KERNEL.get(device, {}).get(scheme):
        return device, _WITHOUT_AVX512 if old else instead
    return ("a CPU without AVX-512", _WITHOUT_AVX512) if old and scheme in _AVX512 else None


def _on_gpus(scheme: str, capability: tuple[int, int]) -> bool:
    first, last = CAPABILITIES.get(scheme, ((0, 0), None))
    return capability >= first and (last is None or capability < last)


def refuse_without_kernel(
    scheme: str, device: str, capability: tuple[int, int] | None = None, flags: Collection[str] | None = None
) -> None:
    """Raise InputError when vLLM has no kernel for `scheme` on `device`, naming the ones that have; `flags`: as above."""
    if found := _instead(scheme, device, flags, capability):
        where, instead = found
        raise InputError(f"vLLM has no kernel for {scheme} on {where}", where="schemes", remedy=f"use {instead}")


def refuse_kv_without_kernel(
    dtype: str, device: str, head_size: int | None = None, flags: Collection[str] | None = None
) -> None:
    """Raise InputError when vLLM has no KV cache of `dtype` on `device`, as its CPU attention (cpu_attn.py) would at load.

    `head_size`: of the model's attention; None where it is not known. `flags`: as above. On GPUs it depends on the attention
    backend that vLLM picks, and is left to it.
    """
    if device != "cpu" or not dtype.startswith("fp8"):
        return
    have = hardware.cpu_flags() if flags is None else flags
    where, remedy = f"serving.kv_cache_dtype = {dtype}", "use auto, and twice the serving.kv_cache_gib for as many tokens"
    if not {"avx512f", "amx_bf16", "amx_int8"} & set(have):
        raise InputError("vLLM has no FP8 KV cache on a CPU without AVX-512 or AMX", where=where, remedy=remedy)
    if head_size is not None and head_size % 32:
        raise InputError(
            f"vLLM's FP8 KV cache on a CPU takes heads of a multiple of 32, this model's are {head_size}",
            where=where,
            remedy=remedy,
        )


def saturates(scheme: str, device: str, flags: Collection[str] | None = None) -> str | None:
    """Say that the INT8 product of vLLM's engine is not exact on this machine; None where it is. `flags`: as above.

    oneDNN adds pairs of 8-bit products in 16 bits on x86 CPUs that have none of the instructions made for it, and what does
    not fit is cut off ("Nuances of int8 computations" in its documentation; docs/quantize.md has what was measured).
    """
    have = set(hardware.cpu_flags() if flags is None else flags)
    if scheme != "w8a8" or device != "cpu" or "avx2" not in have or have & _INT8_INSTRUCTIONS:
        return None
    return (
        "vLLM's INT8 product is not exact on this CPU, which lacks VNNI: answers are worse than the recorded quality of "
        "w8a8 says (tokenhour quantize through-engine measures by how much); bnb-int8 is exact here"
    )


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


def refusal(spec: QuantizeSpec, scheme: str, device: str, capability: tuple[int, int] | None = None) -> InputError | None:
    """Return why serving would refuse `scheme`, packed with these settings, on `device` for want of a kernel, or None."""
    try:
        refuse_without_kernel(scheme, device, capability)
        refuse_bits_without_kernel(spec, scheme, device)
    except InputError as error:
        return error
    return None
