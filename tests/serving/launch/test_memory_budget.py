"""Weights and KV cache against what is there: figures that a person can check by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.records import checkpoint
from tests.serving.launch.test_argv import experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.serving.launch.gpu_memory import GpuMemory
from tokenhour.serving.launch.memory_budget import budget, head_size, kv_bytes_per_token, refuse, refuse_held

LLAMA_8B = {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
GIB = 2**30


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        # 2 x 32 layers x 8 heads x 128 x 2 bytes: the published 128 KiB a token of Llama-3.1-8B.
        (LLAMA_8B, {}, 131_072),
        (LLAMA_8B, {"dtype": "fp8"}, 65_536),
        (LLAMA_8B, {"tensor": 4}, 32_768),
        (LLAMA_8B, {"tensor": 16}, 16_384),
        (LLAMA_8B, {"pipeline": 2}, 65_536),
        ({**LLAMA_8B, "head_dim": 64}, {}, 65_536),
        ({"text_config": LLAMA_8B}, {}, 131_072),
        ({k: v for k, v in LLAMA_8B.items() if k != "num_key_value_heads"}, {}, 524_288),
        # DeepSeek-V3: 61 layers x (512 + 64) x 2 bytes.
        ({"num_hidden_layers": 61, "num_attention_heads": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, {}, 70_272),
        ({"num_hidden_layers": 4, "num_attention_heads": 4, "hidden_size": 64, "mamba_d_state": 16}, {}, None),
        ({}, {}, None),
    ],
)
def test_kv_bytes_a_token_follow_the_models_config(
    config: dict[str, Any], options: dict[str, Any], expected: int | None
) -> None:
    """KV-cache size matches published figures; unknown architectures give none rather than a guess."""
    assert kv_bytes_per_token(config, **{"dtype": "auto", **options}) == expected


def eight_billion(tmp_path: Path, scheme: str = "none", size: int = 16 * 10**9) -> Checkpoint:
    """Make the checkpoint of an 8B model, with its config on disk."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    return checkpoint(scheme=scheme, path=str(tmp_path), parameters=8 * 10**9, weight_bytes=size, memory_bytes=size)


def test_the_sequences_that_fit_at_once_are_counted(tmp_path: Path) -> None:
    """Users see how many full-length sequences fit before they load anything."""
    spec = experiment(max_model_len=8192).serving
    found = budget(eight_billion(tmp_path), spec, "cuda", 80 * GIB)
    assert found.kv_bytes == int(80 * GIB * 0.9) - 16 * 10**9 - int(1.5 * GIB)
    assert found.concurrent_sequences() == found.kv_bytes // (131_072 * 8192) == 55
    assert "55 sequences of 8192 tokens at once" in found.sentence()
    refuse(found, eight_billion(tmp_path), spec, "cuda")


def test_a_gpu_that_is_too_small_is_refused_with_the_precisions_that_would_fit(tmp_path: Path) -> None:
    """The remedy names schemes that are small enough."""
    spec = experiment(max_model_len=4096).serving
    weights = eight_billion(tmp_path)
    with pytest.raises(InputError, match="of memory are needed") as caught:
        refuse(budget(weights, spec, "cuda", 16 * GIB), weights, spec, "cuda")
    assert "w4a16" in caught.value.remedy
    assert "none" not in caught.value.remedy


def test_a_cache_that_holds_not_one_sequence_is_refused_with_the_length_that_fits(tmp_path: Path) -> None:
    """The suggested `max_model_len` works when it is used."""
    spec = experiment(max_model_len=131_072).serving
    weights = eight_billion(tmp_path)
    with pytest.raises(InputError, match="fewer than one sequence") as caught:
        refuse(budget(weights, spec, "cuda", 24 * GIB), weights, spec, "cuda")
    fits = int(caught.value.remedy.split()[5].rstrip(","))
    shorter = experiment(max_model_len=fits).serving
    refuse(budget(weights, shorter, "cuda", 24 * GIB), weights, shorter, "cuda")


def test_a_gpu_that_others_hold_too_much_of_is_refused_with_the_share_that_is_free() -> None:
    """The engine takes a share of the whole memory, and wants it to be free."""
    spec = experiment(gpu_memory_utilization=0.9).serving
    refuse_held([GpuMemory("0", 72 * GIB, 80 * GIB), GpuMemory("1", 80 * GIB, 80 * GIB)], spec)
    with pytest.raises(InputError, match=r"wants 90% of GPU 1's .* are free") as caught:
        refuse_held([GpuMemory("0", 80 * GIB, 80 * GIB), GpuMemory("1", 60 * GIB, 80 * GIB)], spec)
    assert caught.value.where == "serving.gpu_memory_utilization"
    assert "at most 0.75" in caught.value.remedy
    refuse_held([GpuMemory("1", 60 * GIB, 80 * GIB)], experiment(gpu_memory_utilization=0.75).serving)
    with pytest.raises(InputError) as caught:
        refuse_held([GpuMemory("1", 0, 80 * GIB)], spec)
    assert "at most" not in caught.value.remedy
    refuse_held([], spec)


def test_replicas_on_a_cpu_share_the_hosts_memory(tmp_path: Path) -> None:
    """Two replicas need twice the memory, and the remedy names `serving.replicas`."""
    weights = eight_billion(tmp_path, "w8a8", 10**9)
    one, two = experiment(kv_cache_gib=4).serving, experiment(kv_cache_gib=4, replicas=2).serving
    refuse(budget(weights, one, "cpu", 10 * GIB), weights, one, "cpu")
    with pytest.raises(InputError, match="of memory are needed") as caught:
        refuse(budget(weights, two, "cpu", 10 * GIB), weights, two, "cpu")
    assert "serving.replicas" in caught.value.remedy


@pytest.mark.parametrize("name", ["tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"])
def test_every_rank_on_a_cpu_has_a_cache_and_libraries_of_its_own(tmp_path: Path, name: str) -> None:
    """The engine gives each of them VLLM_CPU_KVCACHE_SPACE; the weights are shared out, except to copies."""
    weights = eight_billion(tmp_path, "w8a8", 10**9)
    one, two = experiment(kv_cache_gib=4).serving, experiment(kv_cache_gib=4, **{name: 2}).serving
    alone, both = budget(weights, one, "cpu", 10 * GIB), budget(weights, two, "cpu", 10 * GIB)
    assert (both.kv_bytes, both.kv_caches, both.engine_bytes) == (alone.kv_bytes, 2, 2 * alone.engine_bytes)
    assert both.weight_bytes == alone.weight_bytes * (2 if name == "data_parallel_size" else 1)
    refuse(alone, weights, one, "cpu")
    with pytest.raises(InputError, match="in each of 2 processes") as caught:
        refuse(both, weights, two, "cpu")
    assert f"serving.{name}" in caught.value.remedy


def test_no_precision_is_named_that_this_device_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suggestion without a kernel would only lead to the next refusal."""
    weights = eight_billion(tmp_path)
    spec = experiment(kv_cache_gib=1).serving
    monkeypatch.setattr("tokenhour.machine.hardware.cpu_flags", lambda: ("avx2",))
    with pytest.raises(InputError) as caught:
        refuse(budget(weights, spec, "cpu", 22 * GIB), weights, spec, "cpu")
    assert "(w8a8, bnb-int8, bnb-nf4 would fit)" in caught.value.remedy
    spec = experiment(max_model_len=1024).serving
    with pytest.raises(InputError) as caught:
        refuse(budget(weights, spec, "cuda", 15 * GIB), weights, spec, "cuda", (7, 0))
    assert "(gptq-int8, bnb-int8, gptq-int4, bnb-nf4 would fit)" in caught.value.remedy


def test_what_would_fit_is_counted_over_replicas_and_ranks(tmp_path: Path) -> None:
    """Suggested schemes fit all replicas together, and each rank's share."""
    weights = eight_billion(tmp_path)
    two = experiment(kv_cache_gib=1, replicas=2).serving
    with pytest.raises(InputError) as caught:
        refuse(budget(weights, two, "cpu", 25 * GIB), weights, two, "cpu")
    assert "w8a8" not in caught.value.remedy, "2 x 2 x 8 GB do not fit into 25 GiB"
    assert "bnb-nf4 would fit" in caught.value.remedy
    split = experiment(tensor_parallel_size=2, max_model_len=1024).serving
    with pytest.raises(InputError) as caught:
        refuse(budget(weights, split, "cuda", 8 * GIB), weights, split, "cuda")
    assert "w8a8" in caught.value.remedy, "each of two GPUs takes half of it"


def test_a_model_tells_its_head_size() -> None:
    """Head size comes from the config in each of its spellings, or is unknown."""
    assert head_size(LLAMA_8B) == 128
    assert head_size({**LLAMA_8B, "head_dim": 80}) == 80
    assert head_size({**LLAMA_8B, "kv_lora_rank": 512}) is None
    assert head_size({}) is None


def test_a_definite_cache_size_is_taken_as_it_is(tmp_path: Path) -> None:
    """`gpu_kv_cache_gib` replaces the computed share of memory."""
    spec = experiment(gpu_kv_cache_gib=8, max_model_len=1024).serving
    found = budget(eight_billion(tmp_path), spec, "cuda", 80 * GIB)
    assert found.kv_bytes == 8 * GIB
    assert found.concurrent_sequences() == 64


def test_an_unknown_config_counts_no_sequences(tmp_path: Path) -> None:
    """Without a config nothing is counted, and nothing is refused for that."""
    spec = experiment().serving
    found = budget(checkpoint(path=str(tmp_path)), spec, "cpu", 64 * GIB)
    assert found.concurrent_sequences() is None
    refuse(found, checkpoint(), spec, "cpu")
