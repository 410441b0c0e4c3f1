"""A shape's tokenizer: every byte is a token, every token is text."""

from pathlib import Path

from tests.quantize.source.test_synthetic import experiment
from tokenhour.quantize.build import make
from tokenhour.quantize.cache_key import Workshop
from tokenhour.quantize.source.synthetic import SHAPES
from tokenhour.quantize.source.synthetic_tokenizer import vocabulary


def test_every_token_of_the_vocabulary_is_text_and_every_byte_a_token(tmp_path: Path) -> None:
    """Any prompt can be encoded and any random answer decoded, so benchmarks count tokens exactly."""
    from tokenizers import Tokenizer

    made = make(experiment(), "none", Workshop(tmp_path / "c", tmp_path / "r"))
    tokenizer = Tokenizer.from_file(f"{made.path}/tokenizer.json")
    assert tokenizer.get_vocab_size() == SHAPES["tiny"].vocabulary == len(vocabulary(4096))
    text = "Zürich, 語: a\tb"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([300, 4093]) == " w300 w4093"
