"""Which of AutoRound and GPTQ rounds a model's INT4 weights."""

import pytest

from contracts.errors import InputError
from contracts.quantize_spec import QuantizeSpec
from quantize import method
from quantize.layers import Treatment
from quantize.method import LEAST_TOKENS, TRIED, Decoder, obstacle, settle, untried

LLAMA = {"kind": "llama", "layer_kinds": frozenset({"full_attention"}), "beside_text": False}
FINE = {"model.layers.0.mlp.up_proj": (64, 128), "lm_head": (64, 301)}


def decoder(**changes) -> Decoder:
    return Decoder(**(LLAMA | {"shapes": FINE} | changes))


def spec(**settings) -> QuantizeSpec:
    return QuantizeSpec.model_validate(settings)


@pytest.fixture
def settled(monkeypatch, tmp_path):
    """Return what settles w4a16 for a decoder."""

    def run(found, name="w4a16", **settings):
        monkeypatch.setattr(method, "decoder_of", lambda *_, **__: found)
        return settle(name, spec(**settings), tmp_path, {})

    return run


def test_what_was_tried_is_learned_and_nothing_is_said(settled):
    used, notes = settled(decoder())
    assert (used.w4a16_method, notes) == ("autoround", ())


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"beside_text": True}, "models that read more than text"),
        ({"layer_kinds": frozenset({"sliding_attention", "full_attention"})}, "full_attention, sliding_attention"),
        ({"shapes": {"a": (48, 64)}}, "a has 48 x 64"),
        ({"shapes": {"a": (64, 1)}}, "a has 64 x 1"),
    ],
)
def test_what_autoround_cannot_learn_is_gptqs_with_the_reason_or_refused_where_it_was_asked_for(settled, changes, why):
    found = decoder(**changes)
    used, notes = settled(found)
    assert used.w4a16_method == "gptq"
    assert why in notes[0]
    with pytest.raises(InputError, match="AutoRound cannot learn") as caught:
        settled(found, w4a16_method="autoround")
    assert why in caught.value.what
    assert settled(found, w4a16_method="gptq")[1] == ()


@pytest.mark.parametrize(
    ("changes", "settings", "why"),
    [
        ({"kind": "homemade"}, {}, "models of type homemade"),
        ({}, {"calibration": {"windows": 8, "window_tokens": 256}}, f"fewer than {LEAST_TOKENS} tokens"),
        ({}, {"dampening": 0.02}, "dampening is GPTQ's"),
        ({}, {"scale_search": False, "act_order": False}, "act_order, scale_search is GPTQ's"),
    ],
)
def test_what_was_not_tried_is_gptqs_with_the_reason_and_learned_where_that_was_asked_for(settled, changes, settings, why):
    found = decoder(**changes)
    used, notes = settled(found, **settings)
    assert used.w4a16_method == "gptq"
    assert why in notes[0]
    assert settled(found, w4a16_method="autoround", **settings) == (spec(w4a16_method="autoround", **settings), ())


def test_other_schemes_have_nothing_to_settle(settled):
    assert settled(None, "gptq-int4") == (spec(), ())


def test_layers_that_are_skipped_and_the_head_may_have_any_size():
    odd = {"a": (48, 64), "b": (64, 64), "lm_head": (64, 301)}
    assert obstacle(decoder(shapes=odd), {"a": Treatment(skip=True)}) is None
    assert obstacle(decoder(shapes=odd), {}) is not None


def test_the_default_calibration_is_enough():
    assert all(untried(spec(), decoder(kind=kind)) is None for kind in TRIED)
    assert untried(spec(calibration={"windows": 16, "window_tokens": 256}), decoder()) is None
