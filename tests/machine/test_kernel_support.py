"""What the KV cache may be stored as: refused by name before anything is loaded, as vLLM would refuse it afterwards."""

import pytest

from tokenhour.contracts.errors import InputError
from tokenhour.machine.kernel_support import refuse_kv_without_kernel

OLD, NEW = ("avx2",), ("avx2", "avx512f")


@pytest.mark.parametrize("dtype", ["fp8", "fp8_e4m3", "fp8_e5m2"])
def test_an_fp8_cache_needs_avx512_or_amx_on_a_cpu(dtype: str) -> None:
    """The refusal names the field and the remedy; newer CPUs and GPUs are accepted."""
    with pytest.raises(InputError, match="no FP8 KV cache on a CPU without AVX-512 or AMX") as caught:
        refuse_kv_without_kernel(dtype, "cpu", 64, OLD)
    assert caught.value.where == f"serving.kv_cache_dtype = {dtype}"
    assert "use auto" in caught.value.remedy
    for flags in (NEW, ("amx_bf16",)):
        refuse_kv_without_kernel(dtype, "cpu", 64, flags)
    refuse_kv_without_kernel(dtype, "cuda", 80, OLD)


def test_heads_that_the_kernel_does_not_take_are_refused() -> None:
    """A head size that is no multiple of 32 would fail only after loading."""
    with pytest.raises(InputError, match="multiple of 32, this model's are 80"):
        refuse_kv_without_kernel("fp8", "cpu", 80, NEW)
    refuse_kv_without_kernel("fp8", "cpu", None, NEW)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16"])
def test_other_types_run_anywhere(dtype: str) -> None:
    """Plain cache types are never refused, whatever the CPU and head size."""
    refuse_kv_without_kernel(dtype, "cpu", 80, OLD)
    with pytest.raises(InputError):
        refuse_kv_without_kernel("fp8", "cpu", 80, OLD)
