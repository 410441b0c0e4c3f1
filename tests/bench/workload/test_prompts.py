"""Prompts as text have exactly the tokens that were asked for."""

from pathlib import Path

import numpy as np
import pytest

from tokenhour.bench.workload.prompts import exact_text, load_tokenizer, stable, text_maker
from tokenhour.bench.workload.request_plan import Ask
from tokenhour.contracts.errors import InputError


@pytest.mark.parametrize("ids", [[1, 2, 3, 4], [0, 1, 2, 3, 4, 5]], ids=["as they are", "one that comes back as several"])
def test_text_has_as_many_tokens_as_ids_were_given(model_folder: Path, ids: list[int]) -> None:
    """An unknown word is spelt with brackets and read as three tokens: the tail is cut for them."""
    tokenizer = load_tokenizer(model_folder / "tokenizer.json")
    text = exact_text(tokenizer, ids)
    assert len(tokenizer.encode(text, add_special_tokens=False).ids) == len(ids)


def test_ids_that_do_not_come_back_as_one_token_are_left_out(model_folder: Path) -> None:
    """What is left keeps its order and its repeats."""
    tokenizer = load_tokenizer(model_folder / "tokenizer.json")
    assert stable(tokenizer, np.array([3, 0, 1, 0, 3])).tolist() == [3, 1, 3]


def test_room_is_left_for_what_the_servers_template_adds(model_folder: Path) -> None:
    """A prompt of 20 tokens is 15 of text where a template adds 5."""
    file = model_folder / "tokenizer.json"
    made = text_maker(np.arange(1, 11), "salt", 0, str(file), overhead=5)(Ask(1, None, 20, 6, 0))
    assert len(load_tokenizer(file).encode(made).ids) == 15


def test_without_a_tokenizer_the_salt_still_comes_first() -> None:
    """Two runs find nothing of each other's in a prefix cache, at the same rough length."""
    one, two = (text_maker(np.arange(1000, 6000), salt, 0, None, 0)(Ask(1, None, 50, 6, 0)) for salt in ("a", "b"))
    assert one[:8] != two[:8]
    assert len(one) == len(two) == 200


def test_a_tokenizer_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The user reads which file is missing."""
    with pytest.raises(InputError, match=r"nowhere\.json': no such file"):
        load_tokenizer(tmp_path / "nowhere.json")
