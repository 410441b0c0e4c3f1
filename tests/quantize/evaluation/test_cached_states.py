"""The original's stored states stand for running it, and are not believed where they do not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.quantize.tiny import tiny_model

torch = pytest.importorskip("torch", reason="the light installation has no torch")

from tokenhour.quantize.evaluation.cached_states import logits, recorded, stored  # noqa: E402
from tokenhour.quantize.evaluation.forward import load_dense, window_stats  # noqa: E402


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A tiny original and a copy with other weights."""
    folder = tiny_model(tmp_path_factory.mktemp("states") / "model")
    original, other = load_dense(folder), load_dense(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return original, other


@pytest.fixture
def ids() -> NDArray[np.int64]:
    """Three windows of random tokens."""
    return np.random.default_rng(0).integers(0, 200, size=(3, 16))


def keep(model: Any, ids: NDArray[np.int64], file: Path) -> Path:
    """Store the model's states of the windows."""
    with recorded(model) as found:
        window_stats(model, model, ids)
    np.save(file, np.stack(found), allow_pickle=False)
    return file


class Counted:
    """A model that counts how often it is run whole."""

    def __init__(self, model: Any) -> None:
        self.model, self.runs = model, 0

    def __call__(self, ids: Any, use_cache: bool) -> Any:
        """Run the model, and count it."""
        self.runs += 1
        return self.model(ids, use_cache=use_cache)

    def get_output_embeddings(self) -> Any:
        """Return the model's output layer."""
        return self.model.get_output_embeddings()


def test_a_comparison_by_states_is_the_comparison_itself_and_runs_the_original_once(
    models: tuple[Any, Any], ids: NDArray[np.int64], tmp_path: Path
) -> None:
    """Stored states give the same figures and save running the original for every scheme."""
    original, other = Counted(models[0]), models[1]
    whole = window_stats(original, other, ids)
    original.runs = 0
    states = stored(keep(models[0], ids, tmp_path / "states.npy"), original, ids)
    assert states is not None
    found = window_stats(original, other, ids, states=states)
    assert original.runs == 1
    assert whole.kl.min() > 1e-4
    for name in ("nll", "original_nll", "kl", "top1"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-5)


def test_nothing_is_recorded_after_the_block(models: tuple[Any, Any], ids: NDArray[np.int64]) -> None:
    """The recorder leaves no hook behind that would cost memory."""
    with recorded(models[0]) as found:
        pass
    models[0](torch.from_numpy(ids[:1]))
    assert found == []


def test_states_of_other_weights_windows_or_none_are_not_taken(
    models: tuple[Any, Any], ids: NDArray[np.int64], tmp_path: Path
) -> None:
    """Stale, missing or torn states are ignored; otherwise quality would be judged against another model."""
    file = keep(models[0], ids, tmp_path / "states.npy")
    assert stored(file, models[1], ids) is None
    assert stored(file, models[0], ids[:, :8]) is None
    assert stored(file, models[0], ids[::-1].copy()) is None
    assert stored(tmp_path / "missing.npy", models[0], ids) is None
    (tmp_path / "broken.npy").write_bytes(file.read_bytes()[:200])
    assert stored(tmp_path / "broken.npy", models[0], ids) is None


def test_a_model_that_caps_its_logits_behind_the_output_layer_is_run_whole(
    models: tuple[Any, Any], ids: NDArray[np.int64], tmp_path: Path
) -> None:
    """States cannot reproduce what happens behind the output layer."""

    class Capped(Counted):
        def __call__(self, ids: Any, use_cache: bool) -> Any:
            found = self.model(ids, use_cache=use_cache)
            return type("Out", (), {"logits": 0.1 * torch.tanh(found.logits / 0.1)})

    file = keep(models[0], ids, tmp_path / "states.npy")
    assert stored(file, Capped(models[0]), ids) is None


def test_a_model_without_an_output_layer_records_nothing_and_takes_nothing(
    models: tuple[Any, Any], ids: NDArray[np.int64], tmp_path: Path
) -> None:
    """Unusual models fall back to being run whole."""

    def bare(ids: Any, use_cache: bool) -> Any:
        return models[0](ids, use_cache=use_cache)

    with recorded(bare) as found:
        bare(torch.from_numpy(ids[:1]), use_cache=False)
    assert found == []
    assert stored(keep(models[0], ids, tmp_path / "states.npy"), bare, ids) is None


def test_logits_of_states_are_the_models_own(models: tuple[Any, Any], ids: NDArray[np.int64]) -> None:
    """The output layer applied to stored states gives what the model itself computes."""
    with recorded(models[0]) as found, torch.inference_mode():
        given = models[0](torch.from_numpy(ids[:1])).logits[0]
        torch.testing.assert_close(logits(models[0], found[0]), given)
