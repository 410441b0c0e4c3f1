"""Price tables: read, chosen by model, host and date, and applied to a mix of tokens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from tokenhour.contracts.config.economics import CurrencyRate, RequestClass
from tokenhour.contracts.config.prices import ApiPrice, ApiPriceTable, ContextTier, InstancePrice, InstancePriceTable
from tokenhour.contracts.errors import InputError, nearest
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.units import TOKENS_PER_MTOK

Row = TypeVar("Row", ApiPrice, InstancePrice)
TABLE_FILES = ("api.yaml", "instances.yaml")


@dataclass(frozen=True, slots=True)
class Tables:
    """All rows of a price folder."""

    apis: tuple[ApiPrice, ...]
    instances: tuple[InstancePrice, ...]
    folder: Path


def load_tables(folder: Path) -> Tables:
    """Read api.yaml and instances.yaml; InputError names file, line and field."""
    api, instances = (folder / name for name in TABLE_FILES)
    return Tables(validate_yaml(ApiPriceTable, api).prices, validate_yaml(InstancePriceTable, instances).prices, folder)


def usd_per_unit(currency: str, rates: Mapping[str, CurrencyRate], where: str) -> float:
    """Return what one unit of a price row's currency is worth; InputError where the scenario states no rate."""
    if currency == "USD":
        return 1.0
    if currency not in rates:
        raise InputError(
            f"is in {currency}, and no rate is stated",
            where=where,
            remedy=f"add economics.rates: {{{currency}: {{usd: ..., source: ...}}}}",
        )
    return rates[currency].usd


def in_force(rows: Sequence[Row], on: dt.date) -> Row | None:
    """Return the row with the latest effective_from that is not after `on`; an undated row counts as the oldest."""
    known = [row for row in rows if row.effective_from is None or row.effective_from <= on]
    return max(known, key=lambda row: (row.effective_from or dt.date.min, row.checked_on), default=None)


def api_price(tables: Tables, model: str, host: str, on: dt.date) -> ApiPrice:
    """Look a price up by model, host and date; no match is an InputError that lists the nearest names."""
    where = str(tables.folder / "api.yaml")
    names = {row.name for row in tables.apis}
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
    """Look an instance up by its name (or its accelerator's, the smallest first), cloud, region (any when None) and date."""
    where = str(tables.folder / "instances.yaml")
    there = [r for r in tables.instances if r.cloud == cloud and region in {None, r.region}]
    rows = [r for r in there if r.instance == instance]
    if not rows:
        same = [r for r in there if r.accelerator == instance]
        least = min((r.accelerators for r in same), default=0)
        rows = [r for r in same if r.accelerators == least]
    found = in_force(rows, on)
    if found is None:
        names = {f"{name} at {row.cloud}" for row in tables.instances for name in (row.instance, row.accelerator)}
        at = f" in {region}" if region else ""
        raise InputError(
            f"no price of {instance} at {cloud}{at} on {on}", where=where, remedy=nearest(f"{instance} at {cloud}", names)
        )
    return found


def hourly_usd(row: InstancePrice, purchase: str, rates: Mapping[str, CurrencyRate] | None = None) -> float:
    """Return the hourly price of a purchase option, USD; InputError names the options that the row has."""
    price = getattr(row, purchase)
    if price is None:
        have = [name for name in ("on_demand", "spot", "reserved_1y", "reserved_3y") if getattr(row, name) is not None]
        raise InputError(
            f"{row.instance} at {row.cloud} has no {purchase} price",
            where="economics.purchase",
            remedy=f"it has: {', '.join(have)}",
        )
    return float(price) * usd_per_unit(row.currency, rates or {}, f"price of {row.instance} at {row.cloud}")


@dataclass(frozen=True, slots=True)
class TokenMix:
    """Mean tokens of a request, and how the API would bill them."""

    input_tokens: float
    output_tokens: float
    cached_share: float = 0.0
    """Of the input."""
    batch_share: float = 0.0
    """Of the requests."""
    cache_write_share: float = 0.0
    """Of the input."""
    classes: tuple[RequestClass, ...] = ()
    """Kinds of requests of different length, where the means alone would choose a wrong context tier."""


def request_usd(row: ApiPrice, mix: TokenMix) -> float:
    """Return the price of a mean request, in the row's currency.

    A = [(i_f p_in + i_c p_cr + i_w p_cw + o p_out) ((1 - b) + b beta)] / 1e6 with the context tier of each request's own
    input and beta per token class. InputError where cached, written or batch tokens are asked for and the row has no such
    price.
    """
    if not mix.classes:
        return _one_request(row, mix, mix.input_tokens, mix.output_tokens)
    total = sum(kind.share for kind in mix.classes)
    return sum(k.share / total * _one_request(row, mix, k.prompt_tokens, k.output_tokens) for k in mix.classes)


def _one_request(row: ApiPrice, mix: TokenMix, input_tokens: float, output_tokens: float) -> float:
    tier = max(
        (t for t in row.context_tiers if input_tokens > t.above_input_tokens),
        key=lambda t: t.above_input_tokens,
        default=row,
    )
    cached, written = input_tokens * mix.cached_share, input_tokens * mix.cache_write_share
    total = 0.0
    for name, tokens in (
        ("input", input_tokens - cached - written),
        ("output", output_tokens),
        ("cache_read", cached),
        ("cache_write", written),
    ):
        if tokens:
            total += tokens * _price_of(row, tier, name) * _batch_factor(row, name, mix.batch_share)
    return total / TOKENS_PER_MTOK


def _price_of(row: ApiPrice, tier: ApiPrice | ContextTier, name: str) -> float:
    price = getattr(tier, name)
    if price is None:
        field = {"cache_read": "cached_share", "cache_write": "cache_write_share"}[name]
        where = f"price of {row.name}"
        at = f" above {tier.above_input_tokens} input tokens" if isinstance(tier, ContextTier) else ""
        remedy = f"set {field} to 0" + (", or on this API alone: cached_share: 0" if name == "cache_read" else "")
        raise InputError(f"has no {name} price{at}", where=where, remedy=remedy)
    return float(price)


def _batch_factor(row: ApiPrice, name: str, share: float) -> float:
    if not share:
        return 1.0
    factor = getattr(row.batch, name)
    if factor is None:
        raise InputError(
            f"has no batch price for {name}",
            where=f"price of {row.name}",
            remedy="set economics.batch_share to 0, or on this API alone: batch_share: 0",
        )
    return (1 - share) + share * float(factor)


def blended_usd_per_mtok(
    row: ApiPrice, mix: TokenMix, tokens_ratio: float = 1.0, rates: Mapping[str, CurrencyRate] | None = None
) -> float:
    """Return USD for a million tokens of the served model, input and output together, at this mix.

    `tokens_ratio` is how many tokens of the API's tokenizer stand for one of the served model's; it counts for tiers too.
    """
    scaled = replace(
        mix,
        input_tokens=mix.input_tokens * tokens_ratio,
        output_tokens=mix.output_tokens * tokens_ratio,
        classes=tuple(
            RequestClass(
                share=k.share, prompt_tokens=k.prompt_tokens * tokens_ratio, output_tokens=k.output_tokens * tokens_ratio
            )
            for k in mix.classes
        ),
    )
    rate = usd_per_unit(row.currency, rates or {}, f"price of {row.name}")
    return request_usd(row, scaled) * rate * TOKENS_PER_MTOK / (mix.input_tokens + mix.output_tokens)
