"""Prices out of genai-prices: the optional package, or its JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from tokenhour.breakeven.prices.row_factory import CLASSES, HOSTS, canonical, exact, factors, make_row, read_json
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.errors import InputError

_GENAI = {name: f"{name}_mtok" for name in CLASSES}


_KEPT = {
    *(
        "id",
        "pricing_urls",
        "models",
        "prices",
        "price_variants",
        "when",
        "constraint",
        "start_date",
        "start_time",
        "end_time",
    ),
    *("base", "tiers", "start", "price", *_GENAI.values()),
}


def from_genai_prices(file: Path | None, on: dt.date) -> Iterator[ApiPrice]:
    """Yield rows of genai-prices: its JSON in `file`, or the installed package; past, present and future prices.

    InputError where neither is there. Its Bedrock rows have no batch price, so none is made up.
    """
    version, providers = ("", read_json(file)) if file else _installed()
    where = str(file) if file else "genai-prices"
    if not isinstance(providers, list):
        raise InputError(
            f"holds a {type(providers).__name__}", where=where, remedy="give genai-prices' JSON, a list of providers"
        )
    name = f"genai-prices {version}".strip()
    for provider in providers:
        host = HOSTS.get(provider["id"], provider["id"])
        url = (provider.get("pricing_urls") or ["https://github.com/pydantic/genai-prices"])[0]
        for model in provider["models"]:
            for start, prices in _dated(model["prices"]):
                if prices.get("input_mtok") is None or prices.get("output_mtok") is None:
                    continue
                batch = _batch_variant(model, on)
                yield _from_genai(model["id"], host, prices, batch, start, on, name, url)


def _from_genai(
    model: str,
    host: str,
    prices: Mapping[str, Any],
    batch: Mapping[str, Any],
    start: dt.date | None,
    on: dt.date,
    name: str,
    url: str,
) -> ApiPrice:
    where = f"{name}: {model} at {host}"
    base = {k: _base(prices.get(field), where) for k, field in _GENAI.items()}
    half = {k: _base(batch.get(field), where) for k, field in _GENAI.items()}
    starts = sorted({t["start"] for field in _GENAI.values() for t in _tiers(prices.get(field))})
    tiers = [
        {"above_input_tokens": s, **{k: _tier_price(prices.get(field), s, where) for k, field in _GENAI.items()}}
        for s in starts
    ]
    return make_row(
        {
            "model": canonical(model),
            "host": host,
            **base,
            "batch": factors(base, half),
            "context_tiers": tiers,
            "effective_from": start,
            "checked_on": on,
            "source": name if start else f"{name} (undated snapshot)",
            "source_url": url,
        },
        where,
    )


def _installed() -> tuple[str, Any]:
    """Return the installed package's version and data in the shape of its JSON."""
    from importlib import metadata

    try:
        from genai_prices.data import providers
    except ImportError as error:
        raise InputError(
            "genai-prices is not installed",
            where="genai-prices",
            remedy="pip install 'tokenhour[prices]', or name its JSON file",
        ) from error
    return metadata.version("genai-prices"), [_plain(provider) for provider in providers]


def _plain(thing: Any) -> Any:
    """Turn the package's objects into what its JSON would say."""
    if isinstance(thing, list | tuple):
        return [_plain(item) for item in thing]
    if isinstance(thing, dict):
        return {key: _plain(value) for key, value in thing.items()}
    if isinstance(thing, dt.date | dt.time):
        return thing.isoformat()
    if type(thing).__module__.startswith("genai_prices"):
        kept = {k: v for k, v in vars(thing).items() if k in _KEPT and v is not None}
        return {key: _plain(value) for key, value in kept.items()}
    return thing


def _dated(prices: Any) -> list[tuple[dt.date | None, Mapping[str, Any]]]:
    """Return (first day, prices) of a model; prices of certain hours of the day are left out."""
    if isinstance(prices, dict):
        return [(None, prices)]
    found = []
    for item in prices:
        constraint = item.get("constraint") or {}
        if "start_time" not in constraint:
            start = constraint.get("start_date")
            found.append((dt.date.fromisoformat(start) if start else None, item["prices"]))
    return found


def _batch_variant(model: Mapping[str, Any], on: dt.date) -> Mapping[str, Any]:
    for variant in model.get("price_variants") or ():
        start = (variant.get("constraint") or {}).get("start_date")
        if variant["when"] == {"processing": "batch"} and (not start or dt.date.fromisoformat(start) <= on):
            prices: Mapping[str, Any] = variant["prices"]
            return prices
    return {}


def _tiers(value: Any) -> Sequence[Mapping[str, Any]]:
    return value.get("tiers", ()) if isinstance(value, dict) else ()


def _base(value: Any, where: str) -> Decimal | None:
    value = value.get("base") if isinstance(value, dict) else value
    return None if value is None else exact(value, where)


def _tier_price(value: Any, start: int, where: str) -> Decimal | None:
    """Return the price above `start` tokens: the highest tier that begins there or before."""
    reached = [t for t in _tiers(value) if t["start"] <= start]
    return exact(max(reached, key=lambda t: t["start"])["price"], where) if reached else _base(value, where)
