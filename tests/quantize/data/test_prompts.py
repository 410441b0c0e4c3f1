"""Greedy answers of many prompts at once are those of each prompt alone."""

from pathlib import Path
from typing import Any

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
