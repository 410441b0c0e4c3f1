"""Prices that others keep, as rows of our tables: genai-prices (an optional package, or its JSON) and LiteLLM's JSON."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from contracts.errors import InputError, nearest
from contracts.price import ApiPrice, ApiPriceTable, BatchFactors, ContextTier
from contracts.yamlfile import explain

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
_LITELLM = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
}
_ABOVE = re.compile(r"^input_cost_per_token_above_(\d+)k_tokens$")
_REGIONAL = re.compile(r"^(us|eu|apac|au|jp|global|us-gov|ca|sa)\.")
_CHAT = {"chat", "completion", "responses"}
_GENAI = {name: f"{name}_mtok" for name in CLASSES}


def canonical(model: str) -> str:
    """Return our name of a model: the last part of a path, lower case, the Llamas under one name."""
    name = model.rsplit("/", 1)[-1].lower()
    llama = _LLAMA.match(name)
    return f"llama-{llama[1]}.{llama[2]}-{llama[3]}-instruct" if llama else name


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
        raise InputError("no row matches", where=source, remedy=nearest(model or host, names))
    return found


def from_litellm(file: Path, on: dt.date) -> Iterator[ApiPrice]:
    """Yield rows of LiteLLM's model_prices_and_context_window.json: one a model and host, text models only, undated."""
    data = _read_json(file)
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
        return None if value is None else _mtok(value, f"{where}: {name}")

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
    return _row(
        {
            "model": canonical(key),
            "host": host,
            **base,
            "batch": _factors(base, batch),
            "context_tiers": tiers,
            "checked_on": on,
            "source": f"LiteLLM {file} (undated)",
            "source_url": str(entry.get("source") or "https://github.com/BerriAI/litellm"),
            "deprecated_on": entry.get("deprecation_date"),
        },
        where,
    )


def from_genai_prices(file: Path | None, on: dt.date) -> Iterator[ApiPrice]:
    """Yield rows of genai-prices: its JSON in `file`, or the installed package; past, present and future prices.

    InputError where neither is there. Its Bedrock rows have no batch price, so none is made up.
    """
    version, providers = ("", _read_json(file)) if file else _installed()
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
    return _row(
        {
            "model": canonical(model),
            "host": host,
            **base,
            "batch": _factors(base, half),
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
    return None if value is None else _decimal(value, where)


def _tier_price(value: Any, start: int, where: str) -> Decimal | None:
    """Return the price above `start` tokens: the highest tier that begins there or before."""
    reached = [t for t in _tiers(value) if t["start"] <= start]
    return _decimal(max(reached, key=lambda t: t["start"])["price"], where) if reached else _base(value, where)


def _factors(base: Mapping[str, Decimal | None], batch: Mapping[str, Decimal | None]) -> BatchFactors:
    """Return batch over standard price of each class; a class without a batch price has no factor."""
    found = {}
    for name in CLASSES:
        whole, part = base[name], batch[name]
        if whole and part is not None and part <= whole:
            found[name] = (part / whole).quantize(Decimal("0.0001")).normalize()
    return BatchFactors(**found)


def _mtok(value: Any, where: str) -> Decimal:
    """Turn a price a token into one a million, without the noise of binary fractions."""
    return (_decimal(value, where) * 1_000_000).quantize(Decimal("0.000001")).normalize()


def _decimal(value: Any, where: str) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise InputError(f"{value!r} is no price", where=where, remedy="correct the file: a number of at least 0")
    return found


def _row(fields: Mapping[str, Any], where: str) -> ApiPrice:
    tiers = [ContextTier.model_validate(t) for t in fields["context_tiers"]]
    try:
        return ApiPrice.model_validate({**fields, "context_tiers": tiers})
    except ValidationError as error:
        raise InputError(
            explain(error, ApiPrice, {}), where=where, remedy="correct the entry, or import with --model"
        ) from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(file), remedy="check the path") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not JSON: {error}", where=str(file), remedy="download it again") from error


class _Dumper(yaml.SafeDumper):
    """Writes Decimals as plain numbers and leaves out what YAML would add around them."""


_Dumper.add_representer(Decimal, lambda d, v: d.represent_scalar("tag:yaml.org,2002:float", format(v, "f")))
_Dumper.add_representer(tuple, lambda d, v: d.represent_list(v))


def as_yaml(rows: Sequence[ApiPrice]) -> str:
    """Write rows as a whole table, ready to be reviewed and appended to configs/prices/api.yaml."""
    head = {"record": ApiPriceTable.model_fields["record"].default, "version": 1}
    body = [row.model_dump(exclude_defaults=True) for row in rows]
    return yaml.dump({**head, "prices": body}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=125)
