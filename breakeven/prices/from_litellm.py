"""Prices out of LiteLLM's model_prices_and_context_window.json."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from tokenhour.breakeven.prices.row_factory import HOSTS, canonical, factors, make_row, per_mtok, read_json
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.errors import InputError

_LITELLM = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}


_ABOVE = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")


_REGIONAL = re.compile(r"^(us|eu|apac|au|jp|global|us-gov|ca|sa)\.")


_CHAT = {"chat", "completion", "responses"}


def from_litellm(file: Path, on: dt.date) -> Iterator[ApiPrice]:
    """Yield rows of LiteLLM's model_prices_and_context_window.json: one a model and host, text models only, undated."""
    data = read_json(file)
    if not isinstance(data, dict):
        raise InputError(
            f"holds a {type(data).__name__}", where=str(file), remedy="give LiteLLM's JSON, an object of models"
        )
    seen = set()
    for key, entry in data.items():
        if not _is_text_model(key, entry):
            continue
        provider = str(entry["litellm_provider"])
        row = _from_litellm(key, entry, HOSTS.get(provider, provider), on, f"{file}: {key}", file.name)
        if (row.model, row.host) not in seen:
            seen.add((row.model, row.host))
            yield row


def _is_text_model(key: str, entry: Any) -> bool:
    if (
        not isinstance(entry, dict)
        or key == "sample_spec"
        or entry.get("mode") not in _CHAT
        or not entry.get("litellm_provider")
    ):
        return False
    regional = str(entry["litellm_provider"]).startswith("bedrock") and ("/" in key or _REGIONAL.match(key))
    return not regional and entry.get(_LITELLM["input"]) is not None and entry.get(_LITELLM["output"]) is not None


def _from_litellm(key: str, entry: Mapping[str, Any], host: str, on: dt.date, where: str, file: str) -> ApiPrice:
    def price(name: str) -> Decimal | None:
        value = entry.get(name)
        return None if value is None else per_mtok(value, f"{where}: {name}")

    base = {name: price(field) for name, field in _LITELLM.items()}
    batch = {name: price(f"{field}_batches") for name, field in _LITELLM.items()}
    tiers = []
    for field in sorted(entry):
        if above := _ABOVE.match(field):
            suffix = f"_above_{above[1]}k_tokens"
            prices = {name: price(f"{field}{suffix}") for name, field in _LITELLM.items()}
            tiers.append(
                {
                    "above_input_tokens": int(above[1]) * 1000,
                    **{k: v if v is not None else base[k] for k, v in prices.items()},
                }
            )
    return make_row(
        {
            "model": canonical(key),
            "host": host,
            **base,
            "batch": factors(base, batch),
            "context_tiers": tiers,
            "checked_on": on,
            "source": f"LiteLLM {file} (undated)",
            "source_url": str(entry.get("source") or "https://github.com/BerriAI/litellm"),
            "deprecated_on": entry.get("deprecation_date"),
        },
        where,
    )
