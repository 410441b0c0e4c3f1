"""Price tables: read, chosen by model, host and date, and applied to a mix of tokens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from contracts.errors import InputError, nearest
from contracts.price import ApiPrice, ApiPriceTable, InstancePrice, InstancePriceTable
from contracts.units import TOKENS_PER_MTOK
from contracts.yamlfile import validate_yaml

Row = TypeVar("Row", ApiPrice, InstancePrice)


@dataclass(frozen=True, slots=True)
class Tables:
    """All rows of a price folder."""

    apis: tuple[ApiPrice, ...]
    instances: tuple[InstancePrice, ...]
    folder: Path


def load_tables(folder: Path) -> Tables:
    """Read api.yaml and instances.yaml; InputError names file, line and field."""
    apis = validate_yaml(ApiPriceTable, folder / "api.yaml").prices
    return Tables(apis, validate_yaml(InstancePriceTable, folder / "instances.yaml").prices, folder)


def in_force(rows: Sequence[Row], on: dt.date) -> Row | None:
    """Return the row with the latest effective_from that is not after `on`; an undated row counts as the oldest."""
    known = [row for row in rows if row.effective_from is None or row.effective_from <= on]
    return max(known, key=lambda row: (row.effective_from or dt.date.min, row.checked_on), default=None)


def api_price(tables: Tables, model: str, host: str, on: dt.date) -> ApiPrice:
    """Look a price up by model, host and date; no match is an InputError that lists the nearest names."""
    where = str(tables.folder / "api.yaml")
    names = {f"{row.model} at {row.host}" for row in tables.apis}
    rows = [row for row in tables.apis if (row.model, row.host) == (model, host)]
    if not rows:
        raise InputError(f"no price of {model} at {host}", where=where, remedy=nearest(f"{model} at {host}", names))
    found = in_force(rows, on)
    if found is None:
        since = min(row.effective_from for row in rows if row.effective_from)
        raise InputError(
            f"{model} at {host} has no price on {on}, only from {since}", where=where, remedy="use a later on_date"
        )
    if found.deprecated_on and found.deprecated_on <= on:
        raise InputError(
            f"{model} at {host} ended on {found.deprecated_on}", where=where, remedy="compare with its successor"
        )
    return found


def instance_price(tables: Tables, instance: str, cloud: str, region: str | None, on: dt.date) -> InstancePrice:
    """Look an instance up by name, cloud, region (any when None) and date."""
    where = str(tables.folder / "instances.yaml")
    rows = [r for r in tables.instances if (r.instance, r.cloud) == (instance, cloud) and region in {None, r.region}]
    found = in_force(rows, on)
    if found is None:
        names = {f"{row.instance} at {row.cloud}" for row in tables.instances}
        at = f" in {region}" if region else ""
        raise InputError(
            f"no price of {instance} at {cloud}{at} on {on}", where=where, remedy=nearest(f"{instance} at {cloud}", names)
        )
    return found


def hourly_usd(row: InstancePrice, purchase: str) -> float:
    """Return the hourly price of a purchase option; InputError names the options that the row has."""
    price = getattr(row, purchase)
    if price is None:
        have = [name for name in ("on_demand", "spot", "reserved_1y", "reserved_3y") if getattr(row, name) is not None]
        raise InputError(
            f"{row.instance} at {row.cloud} has no {purchase} price",
            where="economics.purchase",
            remedy=f"it has: {', '.join(have)}",
        )
    return float(price)


@dataclass(frozen=True, slots=True)
class Mix:
    """Mean tokens of a request, and how the API would bill them."""

    input_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    """Of the input."""
    batch_share: float = 0.0
    """Of the requests."""


def request_usd(row: ApiPrice, mix: Mix) -> float:
    """Return the price of a mean request, USD.

    A = [(i_f p_in + i_c p_cr + o p_out) ((1 - b) + b beta)] / 1e6 with the context tier of the request and beta per token
    class. InputError where cached or batch tokens are asked for and the row has no such price.
    """
    tier = max(
        (t for t in row.context_tiers if mix.input_tokens > t.above_input_tokens),
        key=lambda t: t.above_input_tokens,
        default=row,
    )
    where = f"price of {row.model} at {row.host}"
    cached = mix.input_tokens * mix.cached_share
    classes = [
        ("input", mix.input_tokens - cached, tier.input, row.batch.input),
        ("output", mix.output_tokens, tier.output, row.batch.output),
    ]
    if cached:
        if tier.cache_read is None:
            raise InputError("has no cache_read price", where=where, remedy="set economics.cached_share to 0")
        classes.append(("cache_read", cached, tier.cache_read, row.batch.cache_read))
    total = 0.0
    for name, tokens, price, factor in classes:
        share = mix.batch_share
        if share and factor is None:
            raise InputError(f"has no batch price for {name}", where=where, remedy="set economics.batch_share to 0")
        total += tokens * float(price) * ((1 - share) + share * float(factor or 1))
    return total / TOKENS_PER_MTOK


def blended_usd_per_mtok(row: ApiPrice, mix: Mix) -> float:
    """Return the price of a million tokens, input and output together, at this mix."""
    return request_usd(row, mix) * TOKENS_PER_MTOK / (mix.input_tokens + mix.output_tokens)
