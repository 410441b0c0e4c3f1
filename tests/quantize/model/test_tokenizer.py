"""A model's tokenizer, and what is said of a broken one."""

from pathlib import Path

import pytest

from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.tokenizer import ModelTokens

pytestmark = pytest.mark.system


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    """The faulty tokenizer file is named in the message."""
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read") as caught:
        ModelTokens(tmp_path).encode("x")
    assert caught.value.where.endswith("tokenizer.json")
