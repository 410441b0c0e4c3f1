"""Rows of our price tables made from what others say: one name a model, exact decimals, factors for batch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tokenhour.contracts.config.prices import ApiPrice, BatchFactors, ContextTier
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import explain

HOSTS = {
    "aws": "bedrock",
    "bedrock_converse": "bedrock",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "together_ai": "together",
}
"""Their names for hosts that our tables call otherwise."""


CLASSES = ("input", "output", "cache_read", "cache_write")


_LLAMA = re.compile(
    r"^(?:meta[.-])?(?:meta-)?llama-?v?(3)[.p-](\d)-(\d+b)(?:-instruct|-instant|-versatile)?(?:-turbo)?(?:-v1:0)?$"
)


def canonical(model: str) -> str:
    """Return our name of a model: the last part of a path, lower case, the Llamas under one name."""
    name = model.rsplit("/", 1)[-1].lower()
    llama = _LLAMA.match(name)
    return f"llama-{llama[1]}.{llama[2]}-{llama[3]}-instruct" if llama else name


def factors(base: Mapping[str, Decimal | None], batch: Mapping[str, Decimal | None]) -> BatchFactors:
    """Return batch over standard price of each class; a class without a batch price has no factor."""
    found = {}
    for name in CLASSES:
        whole, part = base[name], batch[name]
        if whole and part is not None and part <= whole:
            found[name] = (part / whole).quantize(Decimal("0.0001")).normalize()
    return BatchFactors(**found)


def per_mtok(value: Any, where: str) -> Decimal:
    """Turn a price a token into one a million, without the noise of binary fractions."""
    return (exact(value, where) * 1_000_000).quantize(Decimal("0.000001")).normalize()


def exact(value: Any, where: str) -> Decimal:
    """Return a price as it is written; InputError for what is none."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise InputError(f"{value!r} is no price", where=where, remedy="correct the file: a number of at least 0")
    return found


def make_row(fields: Mapping[str, Any], where: str) -> ApiPrice:
    """Validate a row; InputError names the entry that it came from."""
    tiers = [ContextTier.model_validate(t) for t in fields["context_tiers"]]
    try:
        return ApiPrice.model_validate({**fields, "context_tiers": tiers})
    except ValidationError as error:
        raise InputError(
            explain(error, ApiPrice, {}), where=where, remedy="correct the entry, or import with --model"
        ) from error


def read_json(file: Path) -> Any:
    """Read JSON; InputError names the file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(file), remedy="check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not JSON: {error}", where=str(file), remedy="download it again") from error
