"""Prices that others keep, as rows of our tables, to be reviewed and appended."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from tokenhour.breakeven.prices.from_genai_prices import from_genai_prices
from tokenhour.breakeven.prices.from_litellm import from_litellm
from tokenhour.contracts.config.prices import ApiPrice, ApiPriceTable
from tokenhour.contracts.errors import InputError, nearest


def imported(source: str, file: Path | None, on: dt.date, model: str = "", host: str = "") -> list[ApiPrice]:
    """Read a source's rows, those that match; InputError when the file is not what it should be or nothing matches."""
    if source == "litellm" and file is None:
        raise InputError(
            "litellm needs its file", where="FILE", remedy="name your copy of model_prices_and_context_window.json"
        )
    rows = list(from_litellm(file, on) if source == "litellm" and file else from_genai_prices(file, on))
    found = [row for row in rows if model in row.model and host in {"", row.host}]
    if not found:
        names = {row.model for row in rows} | {row.host for row in rows}
        remedy = nearest(model or host, names) if names else "it holds no text model with a price for input and output"
        raise InputError("no row matches", where=str(file or source), remedy=remedy)
    return found


class _PriceDumper(yaml.SafeDumper):
    """Writes Decimals as plain numbers and leaves out what YAML would add around them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every row whole: one with a reference to another could not be copied into a table."""
        del data
        return True


_PriceDumper.add_representer(Decimal, lambda d, v: d.represent_scalar("tag:yaml.org,2002:float", format(v, "f")))
_PriceDumper.add_representer(tuple, lambda d, v: d.represent_list(v))


def as_yaml(rows: Sequence[ApiPrice]) -> str:
    """Write rows as a whole table, ready to be reviewed and appended to configs/prices/api.yaml."""
    head = {"record": ApiPriceTable.model_fields["record"].default, "version": 1}
    body = [row.model_dump(exclude_defaults=True) for row in rows]
    return yaml.dump({**head, "prices": body}, Dumper=_PriceDumper, sort_keys=False, allow_unicode=True, width=125)
