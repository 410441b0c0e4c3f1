"""A checkpoint's tokenizer, and its chat template where a conversation needs it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.load import tokenizer_of


class ModelTokens:
    """The tokenizer in a checkpoint's folder; each half is loaded when it is needed first."""

    def __init__(self, folder: Path, *, trusted: bool = False) -> None:
        self._folder = folder
        self._trusted = trusted

    @cached_property
    def _plain(self) -> Any:
        from tokenizers import Tokenizer

        file = self._folder / "tokenizer.json"
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise InputError(
                f"the tokenizer cannot be read: {error}", where=str(file), remedy="fetch tokenizer.json again"
            ) from error

    @cached_property
    def _templated(self) -> Any:
        return tokenizer_of(self._folder, trusted=self._trusted)

    @property
    def library(self) -> Any:
        """The tokenizer as transformers has it."""
        return self._templated

    def encode(self, text: str) -> list[int]:
        """Return the token ids of plain text, without special tokens of its own."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def chat(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation as the model's chat template writes it; InputError for a model without one."""
        if not self._templated.chat_template:
            raise InputError(
                "this model has no chat template, and the text holds conversations",
                where=str(self._folder),
                remedy="give plain text in the field `text`",
            )
        return str(self._templated.apply_chat_template(messages, tokenize=False))

    def question(self, prompt: str) -> list[int]:
        """Return the ids of a user's question, ready to be answered; plain text for a model without a chat template."""
        if not self._templated.chat_template:
            return self.encode(prompt)
        messages = [{"role": "user", "content": prompt}]
        return self.encode(str(self._templated.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)))
