"""Both methods of w4a16 with the real libraries, on a tiny model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.quantize.tiny import experiment, tiny_model
from tests.quantize.written import LINEARS, MOST_KL, kinds, quantization
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize.build import current, make
from tokenhour.quantize.cache_key import Workshop

pytestmark = pytest.mark.system


@pytest.mark.filterwarnings("default")
def test_autoround_is_made_judged_and_recorded(tmp_path: Path) -> None:
    """A learned checkpoint carries its method, quality and tool versions, and is reused."""
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    spec = experiment(model, tmp_path / "text.txt", w4a16_method="autoround")
    found = make(spec, "w4a16", where)
    assert found.recipe["method"] == "AutoRound"
    assert not any("AutoRound" in note for note in found.notes)
    assert "scale_search" not in found.recipe
    assert kinds(found).count("I32") == 2 * LINEARS  # weights, and packed zero points
    assert 0 < found.quality.mean_kl_divergence.value < MOST_KL
    assert found.tool_versions.keys() >= {"auto-round", "compressed-tensors"}
    assert current(spec, "w4a16", where) == found


@pytest.mark.filterwarnings("default")
def test_where_autoround_was_not_tried_gptq_takes_its_place_and_says_why(packed: Callable[..., Checkpoint]) -> None:
    """The notes give the reason, unless the user asked for GPTQ."""
    found = packed("w4a16")
    assert found.recipe["method"] == "GPTQ"
    why = "GPTQ, as AutoRound was not tried with fewer than 4096 tokens of calibration (here 128)"
    assert why in " ".join(found.notes)
    assert why not in " ".join(packed("w4a16", w4a16_method="gptq").notes)


@pytest.mark.filterwarnings("default")
def test_autoround_says_that_the_head_is_left_alone_when_nothing_ignores_it(tmp_path: Path) -> None:
    """AutoRound keeps the head even if an override asks for it, and says so."""
    model, where = tiny_model(tmp_path / "m", hidden=64), Workshop(tmp_path / "checkpoints", tmp_path)
    asked = {"ignore": (), "overrides": [{"match": "lm_head", "bits": 8}]}
    found = make(experiment(model, tmp_path / "text.txt", w4a16_method="autoround", **asked), "w4a16", where)
    assert found.recipe["ignore"] == ["lm_head"]
    assert "lm_head stays in its original precision" in " ".join(found.notes)
    assert kinds(found).count("I32") == 2 * LINEARS


@pytest.mark.filterwarnings("default")
def test_w4a16_has_zero_points_unless_it_is_symmetric(packed: Callable[..., Checkpoint]) -> None:
    """The `symmetric` setting reaches the written weights and the recipe."""
    for asked, symmetric in ((None, False), (False, False), (True, True)):
        found = packed("w4a16", symmetric=asked)
        weights = quantization(found)["config_groups"]["group_0"]["weights"]
        assert (weights["num_bits"], weights["group_size"], weights["symmetric"]) == (4, 16, symmetric)
        assert found.recipe["symmetric"] is symmetric
        assert 0 < found.quality.mean_kl_divergence.value < MOST_KL
