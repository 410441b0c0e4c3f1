"""The quality gate is judged on read, by the experiment at hand; a kernel that is missing is named with those that exist."""

import pytest

from tokenhour.contracts.config.model_quantize import SCHEMES, QualityGate, QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.quality_gate import judge, judge_quality, said
from tokenhour.machine.kernel_support import (
    NO_KERNEL,
    has_kernel,
    refuse_bits_without_kernel,
    refuse_without_kernel,
    saturates,
)


@pytest.mark.parametrize(
    ("gate", "verdict", "reasons"),
    [
        (QualityGate(), "none", 0),
        (QualityGate(max_mean_kl_divergence=0.05, max_perplexity_ratio=1.03), "PASS", 0),
        (QualityGate(max_mean_kl_divergence=0.02), "PASS", 0),
        (QualityGate(max_mean_kl_divergence=0.0199), "FAIL", 1),
        (QualityGate(max_mean_kl_divergence=0.01, max_perplexity_ratio=1.001), "FAIL", 2),
    ],
)
def test_the_gate_names_each_bound_that_was_broken(gate: QualityGate, verdict: str, reasons: int) -> None:
    """A gate passes up to and including its bounds and gives one reason for each broken one."""
    found, why = judge(gate, 0.02, 1.01)
    assert (found, len(why)) == (verdict, reasons)


def test_what_was_not_measured_has_not_passed() -> None:
    """A gate never passes by default: a bound without a measurement fails."""
    verdict, why = judge_quality(QualityGate(max_perplexity_ratio=1.1), None)
    assert verdict == "FAIL"
    assert why == ("perplexity ratio was not measured",)
    assert judge_quality(QualityGate(), None) == ("none", ())


def test_a_verdict_is_said_with_its_reasons_and_silence_without_a_gate() -> None:
    """Users read PASS or FAIL with reasons, and nothing where they asked for no gate."""
    assert said("none", ()) == ""
    assert said("PASS", ()) == "quality gate PASS"
    assert said("FAIL", ("a", "b")) == "quality gate FAIL (a; b)"


@pytest.mark.parametrize("device", sorted(NO_KERNEL))
def test_a_scheme_without_a_kernel_is_refused_by_name_with_ones_that_have_it(device: str) -> None:
    """The refusal offers only schemes that run on that device."""
    for scheme in NO_KERNEL[device]:
        assert not has_kernel(scheme, device)
        with pytest.raises(InputError, match=f"no kernel for {scheme} on {device}") as caught:
            refuse_without_kernel(scheme, device)
        offered = [name for name in SCHEMES if name in caught.value.remedy.replace(",", " ").split()]
        assert offered
        assert all(has_kernel(name, device) for name in offered)


@pytest.mark.parametrize("capability", [(5, 2), (6, 0), (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 1)])
def test_what_is_offered_instead_on_a_gpu_has_a_kernel_there(capability: tuple[int, ...]) -> None:
    """On each GPU generation a refusal offers only schemes that the same GPU accepts."""

    def refused(name: str) -> bool:
        try:
            refuse_without_kernel(name, "cuda", capability)
        except InputError:
            return True
        return False

    for scheme in filter(refused, SCHEMES):
        with pytest.raises(InputError, match=f"no kernel for {scheme} on a GPU") as caught:
            refuse_without_kernel(scheme, "cuda", capability)
        offered = [name for name in SCHEMES if name in caught.value.remedy.replace(",", " ").split()]
        assert offered
        assert not any(map(refused, offered))


@pytest.mark.parametrize("scheme", ["gptq-int4", "w4a16"])
def test_packed_integers_need_avx_512_on_an_x86_cpu(scheme: str) -> None:
    """Old x86 CPUs are refused before quantizing; ARM and unknown CPUs are not."""
    old, new, arm = ("avx2",), ("avx2", "avx512f"), ("asimddp",)
    assert [has_kernel(scheme, "cpu", flags) for flags in (old, new, arm, ())] == [False, True, True, True]
    assert has_kernel(scheme, "cuda", old)
    with pytest.raises(InputError, match=f"no kernel for {scheme} on a CPU without AVX-512") as caught:
        refuse_without_kernel(scheme, "cpu", flags=old)
    offered = [name for name in SCHEMES if name in caught.value.remedy.replace(",", " ").split()]
    assert sorted(offered) == ["bnb-int8", "bnb-nf4", "w8a8"]
    assert all(has_kernel(name, "cpu", old) for name in offered)


@pytest.mark.parametrize("scheme", ["gptq-int4", "w4a16"])
def test_eight_bit_layers_within_a_four_bit_scheme_are_refused_where_they_have_no_kernel(scheme: str) -> None:
    """An override with 8 bits that the CPU cannot serve is caught, and its rule named."""
    spec = QuantizeSpec.model_validate({"overrides": [{"match": "down_proj", "bits": 8}]})
    with pytest.raises(InputError, match="8-bit layers") as caught:
        refuse_bits_without_kernel(spec, scheme, "cpu")
    assert "down_proj" in caught.value.where
    refuse_bits_without_kernel(spec, scheme, "cuda")
    refuse_bits_without_kernel(spec, "w8a8", "cpu")
    refuse_bits_without_kernel(QuantizeSpec(), scheme, "cpu")


@pytest.mark.parametrize(
    ("scheme", "device", "flags", "inexact"),
    [
        ("w8a8", "cpu", ("avx2",), True),
        ("w8a8", "cpu", ("avx2", "avx512f"), True),
        ("w8a8", "cpu", ("avx2", "avx512f", "avx512_vnni"), False),
        ("w8a8", "cpu", ("avx2", "avx_vnni"), False),
        ("w8a8", "cpu", ("asimddp",), False),
        ("w8a8", "cpu", (), False),
        ("w8a8", "cuda", ("avx2",), False),
        ("bnb-int8", "cpu", ("avx2",), False),
    ],
)
def test_an_int8_product_that_is_cut_off_at_16_bits_is_said(
    scheme: str, device: str, flags: tuple[str, ...], inexact: bool
) -> None:
    """Only x86 CPUs without VNNI saturate w8a8 products; a warning elsewhere would be false."""
    assert (saturates(scheme, device, flags) is not None) == inexact
