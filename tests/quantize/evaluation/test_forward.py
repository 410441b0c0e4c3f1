"""Two models side by side: greedy answers of many prompts are those of each alone, figures those of plain NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.quantize.tiny import tiny_model

torch = pytest.importorskip("torch", reason="the light installation has no torch")

from tokenhour.quantize.evaluation.forward import greedy_answers, load_dense, same_choices  # noqa: E402

PROMPTS = [[5, 9, 11], [7] * 9, [3], [20, 21, 22, 23]]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """Load the tiny model with its logits spread far from ties."""
    found = load_dense(tiny_model(tmp_path / "model"))
    # Far from ties: a random model's logits differ by little.
    with torch.no_grad():
        found.get_output_embeddings().weight.mul_(20)
    found.generation_config.eos_token_id = None
    return found


def test_answers_do_not_depend_on_the_prompts_beside_them(model: Any) -> None:
    """Batching saves time and must not change what generation agreement compares."""
    together = greedy_answers(model, PROMPTS, 6)
    assert together == [greedy_answers(model, [prompt], 6)[0] for prompt in PROMPTS]
    assert [prompt for prompt, _ in together] == PROMPTS
    assert all(
        len(answer) == 6 and found.all() for (_, answer), found in zip(together, same_choices(model, together), strict=True)
    )


@pytest.mark.parametrize("as_list", [False, True])
def test_an_answer_ends_with_its_end_token(model: Any, as_list: bool) -> None:
    """Text after the end token is not compared, for models with one such token or several."""
    whole = greedy_answers(model, PROMPTS, 6)
    end = whole[1][1][2]
    model.generation_config.eos_token_id = [end] if as_list else end
    for (_, before), (_, after) in zip(whole, greedy_answers(model, PROMPTS, 6), strict=True):
        assert after == (before[: before.index(end) + 1] if end in before else before)
    assert any(len(after) < 6 for _, after in greedy_answers(model, PROMPTS, 6))


def test_window_stats_agree_with_a_direct_calculation() -> None:
    """The figures equal those of plain NumPy on models that are small enough to check."""
    torch = pytest.importorskip("torch", reason="the light installation has no torch")
    from tokenhour.quantize.evaluation.forward import window_stats

    rng = np.random.default_rng(0)
    vocabulary, tokens = 11, 6
    tables = [torch.from_numpy(rng.normal(size=(vocabulary, vocabulary))) for _ in range(2)]

    class Toy:
        """Logits that depend on the current token alone."""

        def __init__(self, table: Any) -> None:
            self.table = table

        def __call__(self, ids: Any, **_: object) -> Any:
            return type("Out", (), {"logits": self.table[ids]})

    ids = rng.integers(0, vocabulary, size=(3, tokens))
    found = window_stats(Toy(tables[0]), Toy(tables[1]), ids)
    p, q = (np.exp(t.numpy()) / np.exp(t.numpy()).sum(1, keepdims=True) for t in tables)
    for k, row in enumerate(ids):
        here, following = row[:-1], row[1:]
        assert found.nll[k] == pytest.approx(-np.log(q[here, following]).mean(), rel=1e-5)
        assert found.original_nll[k] == pytest.approx(-np.log(p[here, following]).mean(), rel=1e-5)
        assert found.kl[k] == pytest.approx((p[here] * np.log(p[here] / q[here])).sum(1).mean(), rel=1e-4)
        # With fewer words than are listed the two are one.
        assert found.top_kl[k] == pytest.approx(found.kl[k], rel=1e-3)
        assert found.top1[k] == pytest.approx((p[here].argmax(1) == q[here].argmax(1)).mean())
    same = window_stats(Toy(tables[0]), Toy(tables[0]), ids)
    assert np.abs(same.kl).max() < 1e-9
    assert (same.top1 == 1).all()
