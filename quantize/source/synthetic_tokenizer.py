"""A tokenizer with exactly as many tokens as a vocabulary: the 256 bytes, and filler words for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<|begin|>", "<|end|>"
_CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_alphabet() -> list[str]:
    """Return the character by which byte-level BPE writes each byte: printable ones themselves, others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256))
    return [chr(byte) if byte in printable else chr(256 + next(others)) for byte in range(256)]


def vocabulary(size: int) -> dict[str, int]:
    """Return `size` tokens: bytes first, then filler words, the two special ones last."""
    words = [*byte_alphabet(), *(f"\u0120w{number}" for number in range(256, size - 2)), BEGIN, END]
    return {word: number for number, word in enumerate(words)}


def write_tokenizer(folder: Path, size: int, positions: int) -> None:
    """Write tokenizer.json and tokenizer_config.json. Every byte of a text is a token; every token decodes to text."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    words = vocabulary(size)
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": words[word], "content": word, **special} for word in (BEGIN, END)],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {"type": "BPE", "unk_token": None, "fuse_unk": False, "vocab": words, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": positions,
        "chat_template": _CHAT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
