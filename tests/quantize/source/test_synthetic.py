"""A shape adds up to its publisher's parameter count, says that it has no weights, and is refused where it would mislead."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize.build import current, make, publish
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.source.synthetic import SHAPES, config_of, memory_bytes, quantization_of, shape_of

BENCH = {
    "workload": {"prompt": {"mean_tokens": 24}, "output": {"mean_tokens": 12}},
    "slo": {"percentile": 50, "ttft_s": 3},
}


def experiment(source: str = "shape:tiny", **serving: Any) -> Experiment:
    """Make an experiment over a shape with dummy weights."""
    return Experiment.model_validate(
        {
            "name": "shapes",
            "model": {"source": source},
            "schemes": ["none", "w8a8", "w4a16", "fp8"],
            "serving": {"dummy_weights": True, "max_model_len": 512, **serving},
            "bench": BENCH,
            "economics": {"hardware": "c7i.large", "apis": [{"model": "gpt-4o-mini", "host": "openai"}]},
        }
    )


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_adds_up_to_the_published_parameter_count(name: str) -> None:
    """Memory and speed of a shape stand for the real model only if every layer has its size."""
    assert sum(SHAPES[name].count()) == SHAPES[name].parameters


def test_the_8b_shape_is_the_published_one() -> None:
    """Meta's config.json of Llama-3.1-8B, as its model card and public recipes state it."""
    found = config_of(shape_of("shape:llama-3.1-8b"))
    assert found["architectures"] == ["LlamaForCausalLM"]
    stated = {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    assert {key: found[key] for key in stated} == stated
    assert found["rope_scaling"]["factor"] == 8.0


def test_memory_follows_the_precision() -> None:
    """Each scheme's memory follows from the shape, so capacity can be planned without weights."""
    shape = SHAPES["llama-3.1-8b"]
    found = {scheme: memory_bytes(shape, scheme, 128, symmetric=True) for scheme in ("none", "fp8", "w8a8", "w4a16")}
    assert found["none"] == 2 * shape.parameters
    assert found["fp8"] == found["w8a8"]
    assert found["w8a8"] / found["none"] == pytest.approx(0.566, abs=0.002)
    assert found["w4a16"] / found["none"] == pytest.approx(0.355, abs=0.002)
    assert memory_bytes(shape, "w4a16", 128, symmetric=False) > found["w4a16"]


@pytest.mark.parametrize(
    ("scheme", "bits", "strategy", "activations"),
    [("fp8", 8, "channel", "token"), ("w8a8", 8, "channel", "token"), ("w4a16", 4, "group", None)],
)
def test_the_engine_is_told_the_format(scheme: str, bits: int, strategy: str, activations: str | None) -> None:
    """Dummy weights run through the same kernels as real quantized ones."""
    found = quantization_of(scheme, 128, symmetric=True)
    assert found
    group = found["config_groups"]["group_0"]
    assert (group["weights"]["num_bits"], group["weights"]["strategy"]) == (bits, strategy)
    assert (group["input_activations"] or {}).get("strategy") == activations
    assert found["quant_method"] == "compressed-tensors"


@pytest.mark.parametrize("scheme", ["gptq-int4", "gptq-int8", "bnb-nf4", "bnb-int8"])
def test_a_scheme_that_would_silently_be_bf16_is_refused(scheme: str) -> None:
    """Otherwise the speed of BF16 would be reported as that of a quantized model."""
    with pytest.raises(InputError, match="cannot be had as a shape"):
        quantization_of(scheme, 128, symmetric=True)


def test_a_checkpoint_of_a_shape_is_whole_and_says_what_it_is(tmp_path: Path) -> None:
    """Shapes pass through every later stage, marked as dummy and without quality figures."""
    where, asked = Workshop(tmp_path / "checkpoints", tmp_path / "results"), experiment()
    for scheme in asked.schemes:
        made = make(asked, scheme, where)
        assert current(asked, scheme, where) == made
        publish(made, asked, where.results)
        assert made.recipe["weights"] == "dummy"
        assert "random" in made.source.note
        assert made.quality is None
        config = json.loads((tmp_path / f"results/shapes-{scheme}").joinpath("checkpoint.json").read_text())
        assert config["weight_bytes"] == made.memory_bytes
        served = json.loads((where.checkpoints / made.path.rsplit("/", 1)[-1] / "config.json").read_text())
        assert ("quantization_config" in served) == (scheme != "none")
    assert Checkpoint.read(tmp_path / "results/shapes-w8a8").scheme == "w8a8"


def test_a_shape_without_dummy_weights_is_refused() -> None:
    """A shape has no weights that could be loaded."""
    with pytest.raises(ValidationError, match="dummy_weights"):
        experiment(dummy_weights=False)


def test_an_unknown_shape_is_named(tmp_path: Path) -> None:
    """A typo is answered with the shapes that exist."""
    with pytest.raises(InputError, match=r"llama-3\.1-8b"):
        make(experiment("shape:llama-3.1-9b"), "none", Workshop(tmp_path / "c", tmp_path / "r"))


@pytest.mark.parametrize(("scheme", "preset"), [("fp8", "FP8_DYNAMIC"), ("w8a8", "W8A8"), ("w4a16", "W4A16")])
def test_the_format_is_what_the_quantizers_own_library_calls_by_that_name(scheme: str, preset: str) -> None:
    """The parser that the engine uses reads it, and reads the same scheme as the one a real checkpoint carries."""
    from compressed_tensors.quantization import QuantizationConfig, preset_name_to_scheme

    found = QuantizationConfig.model_validate(quantization_of(scheme, 128, symmetric=True)).config_groups["group_0"]
    wanted = preset_name_to_scheme(preset, targets=["Linear"])
    for part in ("weights", "input_activations"):
        ours, theirs = getattr(found, part), getattr(wanted, part)
        assert (ours is None) == (theirs is None)
        for key in ("num_bits", "type", "symmetric", "strategy", "dynamic", "group_size") if theirs else ():
            assert getattr(ours, key) == getattr(theirs, key), (part, key)
