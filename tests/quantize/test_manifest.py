"""A manifest says what was made and how much quality it lost."""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.io.atomic_io import write_text_atomic
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.evaluation.cached_states import STATES_FILE
from tokenhour.quantize.evaluation.forward import load_dense
from tokenhour.quantize.manifest import quality_of

pytestmark = pytest.mark.system


def test_a_manifest_says_what_was_made_and_from_what(shop: tuple[Experiment, Workshop]) -> None:
    """The manifest alone tells source, recipe, quality, sizes and tool versions of a checkpoint."""
    spec, where = shop
    found = make(spec, "gptq-int4", where)
    folder = Path(found.path)
    assert Checkpoint.read(folder) == found
    assert found.scheme == "gptq-int4"
    assert found.calibration.windows == 4
    assert found.recipe["group_size"] == 16  # divides 48 and 96
    assert "group size 16 instead of 128" in found.notes[0]
    assert found.weight_bytes == (folder / "model.safetensors").stat().st_size
    assert 0 < found.quality.mean_kl_divergence.value < 1
    assert found.quality.top1_agreement.value <= 1
    assert found.quality.generation.prompts == 16
    assert 0 <= found.quality.generation.before_divergence.value <= found.quality.generation.same_choice.value <= 1
    assert len(found.quality.window_nll) == 4
    assert 0 < found.memory_bytes < found.weight_bytes
    assert found.tool_versions == {"torch": metadata.version("torch")}
    assert 0 < found.quantize_seconds < 60
    assert 10**7 < found.peak_rss_bytes < 10**11
    assert found.total_bytes == sum((folder / name).stat().st_size for name in found.files)
    assert set(found.source.files) >= {"model.safetensors", "config.json"}
    found.verify(folder)


def test_states_of_another_text_are_not_taken_for_the_originals(shop: tuple[Experiment, Workshop], tmp_path: Path) -> None:
    """Only the first window's are looked at: a hub's text may differ behind it."""
    spec, where = shop
    import torch

    base = Path(make(spec, "none", where).path)
    models = load_dense(base), load_dense(base)
    with torch.no_grad():
        models[1].model.layers[1].mlp.down_proj.weight.mul_(3)
    places, silent = (tmp_path, tmp_path, base), Silent()
    right = quality_of(spec, *models, places, silent)
    states = np.load(base / STATES_FILE)
    states[-1] = 0
    np.save(base / STATES_FILE, states)
    assert quality_of(spec, *models, places, silent).mean_kl_divergence != right.mean_kl_divergence
    manifest = json.loads((base / Checkpoint.file_name).read_text())
    manifest["quality"]["evaluation"]["sha256"] = "another"
    write_text_atomic(base / Checkpoint.file_name, json.dumps(manifest))
    found = quality_of(spec, *models, places, silent)
    assert found.mean_kl_divergence.value == pytest.approx(right.mean_kl_divergence.value, rel=1e-4)


class Silent:
    def update(self, _: object) -> None:
        """Show nothing."""

    def elapsed_s(self) -> float:
        """Report that no time has passed."""
        return 0.0
