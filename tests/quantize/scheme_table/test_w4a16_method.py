"""Which of AutoRound and GPTQ rounds a model's INT4 weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.layer_rules import Treatment
from tokenhour.quantize.scheme_table import w4a16_method
from tokenhour.quantize.scheme_table.w4a16_method import LEAST_TOKENS, TRIED, Decoder, decoder_of, obstacle, settle, untried

LLAMA = {"layer_kinds": frozenset({"full_attention"}), "beside_text": False}
FINE = {"model.layers.0.mlp.up_proj": (64, 128), "lm_head": (64, 301)}


def decoder(**changes: Any) -> Decoder:
    """Make a plain decoder that AutoRound can learn, with changes."""
    return Decoder(**(LLAMA | {"shapes": FINE} | changes))


def spec(**settings: Any) -> QuantizeSpec:
    """Make quantize settings."""
    return QuantizeSpec.model_validate(settings)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[QuantizeSpec, tuple[str, ...]]]:
    """Return what settles w4a16 for a decoder."""

    def run(
        found: Decoder | None, name: str = "w4a16", kind: str = "llama", **settings: Any
    ) -> tuple[QuantizeSpec, tuple[str, ...]]:
        monkeypatch.setattr(w4a16_method, "decoder_of", lambda *_, **__: found)
        monkeypatch.setattr(w4a16_method, "kind_of", lambda _: kind)
        return settle(name, spec(**settings), tmp_path, {})

    return run


def test_what_was_tried_is_learned_and_nothing_is_said(settled: Callable[..., tuple[QuantizeSpec, tuple[str, ...]]]) -> None:
    """A model of a tested kind gets AutoRound without a note."""
    used, notes = settled(decoder())
    assert (used.w4a16_method, notes) == ("autoround", ())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"beside_text": True}, "models that read more than text"),
        ({"layer_kinds": frozenset({"sliding_attention", "full_attention"})}, "(full_attention, sliding_attention)"),
        ({"shapes": {"a": (48, 64)}}, "(a: 48 x 64)"),
        ({"shapes": {"a": (64, 1)}}, "(a: 64 x 1)"),
    ],
)
def test_what_autoround_cannot_learn_is_gptqs_with_the_reason_or_refused_where_it_was_asked_for(
    settled: Callable[..., tuple[QuantizeSpec, tuple[str, ...]]], changes: dict[str, Any], why: str
) -> None:
    """By default GPTQ steps in with a note; an explicit wish for AutoRound is rejected."""
    found = decoder(**changes)
    used, notes = settled(found)
    assert used.w4a16_method == "gptq"
    assert why in notes[0]
    with pytest.raises(InputError, match="AutoRound cannot learn") as caught:
        settled(found, w4a16_method="autoround")
    assert why in caught.value.what
    assert settled(found, w4a16_method="gptq")[1] == ()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"kind": "homemade"}, "AutoRound was not tried on models of type homemade"),
        (
            {"calibration": {"windows": 8, "window_tokens": 256}},
            f"fewer than {LEAST_TOKENS} tokens of calibration (here 2048)",
        ),
        ({"dampening": 0.02}, "AutoRound does not read dampening"),
        ({"scale_search": False, "act_order": False}, "AutoRound does not read act_order, scale_search"),
    ],
)
def test_what_was_not_tried_is_gptqs_with_the_reason_and_learned_where_that_was_asked_for(
    settled: Callable[..., tuple[QuantizeSpec, tuple[str, ...]]], settings: dict[str, Any], why: str
) -> None:
    """Untested cases default to GPTQ, but whoever asks for AutoRound gets it."""
    used, notes = settled(decoder(), **settings)
    assert used.w4a16_method == "gptq"
    assert notes[0].startswith("GPTQ, as AutoRound ")
    assert why in notes[0]
    used, notes = settled(decoder(), w4a16_method="autoround", **settings)
    assert used.w4a16_method == "autoround"
    assert notes == ((why,) if "does not read" in why else ())


def test_a_model_that_is_gptqs_anyway_is_not_built_to_look_at_its_layers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unknown architectures need not be buildable for GPTQ."""
    monkeypatch.setattr(w4a16_method, "kind_of", lambda _: "homemade")
    monkeypatch.setattr(w4a16_method, "decoder_of", None)
    assert settle("w4a16", spec(), tmp_path, {})[0].w4a16_method == "gptq"


def test_other_schemes_have_nothing_to_settle(settled: Callable[..., tuple[QuantizeSpec, tuple[str, ...]]]) -> None:
    """The choice of method concerns w4a16 alone."""
    assert settled(None, "gptq-int4") == (spec(), ())


def test_layers_that_are_skipped_and_the_head_may_have_any_size() -> None:
    """Only layers that would be learned can rule AutoRound out."""
    odd = {"a": (48, 64), "b": (64, 64), "lm_head": (64, 301)}
    assert obstacle(decoder(shapes=odd), {"a": Treatment(skip=True)}) is None
    assert obstacle(decoder(shapes=odd), {}) is not None


def test_the_default_calibration_is_enough() -> None:
    """Default settings learn every tested kind of model, and so does the smallest calibration that was tried."""
    assert all(untried(spec(), kind) is None for kind in TRIED)
    assert untried(spec(calibration={"windows": 16, "window_tokens": 256}), "llama") is None


SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4, "vocab_size": 64}
SLIDING = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}


@pytest.mark.system
@pytest.mark.parametrize(
    ("config", "files", "why"),
    [
        ({"model_type": "llama"}, (), None),
        ({"model_type": "qwen2"}, (), None),
        ({"model_type": "qwen2", **SLIDING}, (), "(full_attention, sliding_attention)"),
        ({"model_type": "gemma3_text", "head_dim": 16}, (), "(full_attention, sliding_attention)"),
        ({"model_type": "llama"}, ("preprocessor_config.json",), "more than text"),
        ({"model_type": "llama", "image_token_id": 3}, (), "more than text"),
    ],
)
def test_what_a_config_leaves_out_is_asked_of_its_architecture(
    tmp_path: Path, config: dict[str, Any], files: tuple[str, ...], why: str | None
) -> None:
    """Sliding layers and image inputs are found even if the config does not state them."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL | config))
    for name in files:
        (tmp_path / name).write_text("{}")
    found = obstacle(decoder_of(tmp_path), {})
    assert (found is None) == (why is None)
    assert why is None or why in found


@pytest.mark.system
def test_a_model_that_cannot_be_built_without_weights_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """The remedy is GPTQ, which does not need the list of layers."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"model_type": "homemade"}))
    with pytest.raises(InputError, match="its layers cannot be listed") as caught:
        settle("w4a16", spec(w4a16_method="autoround"), tmp_path, {})
    assert "gptq" in caught.value.remedy


@pytest.mark.system
def test_by_default_a_plain_decoder_is_learned(tmp_path: Path) -> None:
    """AutoRound is the default of w4a16 where it is known to work."""
    used, notes = settle("w4a16", QuantizeSpec(), tiny_model(tmp_path / "m", hidden=64), {})
    assert (used.w4a16_method, notes) == ("autoround", ())
