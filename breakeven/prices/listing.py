"""The price tables as people look at them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenhour.breakeven.prices.tables import Tables, in_force
from tokenhour.contracts.config.prices import ApiPrice, InstancePrice
from tokenhour.contracts.errors import InputError, nearest

WIDE = 180
Row = ApiPrice | InstancePrice


def chosen(tables: Tables, model: str, host: str, on: dt.date | None) -> list[Row]:
    """Return the rows that match; InputError with the nearest names when none does."""
    apis = [r for r in tables.apis if model in r.model and host in {"", r.host}]
    machines = [r for r in tables.instances if (model in r.instance or model in r.accelerator) and host in {"", r.cloud}]
    if on is not None:
        apis = [r for r in apis if r is in_force([a for a in apis if (a.model, a.host) == (r.model, r.host)], on)]
        same = [(r, [m for m in machines if _place(m) == _place(r)]) for r in machines]
        machines = [r for r, rows in same if r is in_force(rows, on)]
    if not apis and not machines:
        known = {name for r in tables.apis for name in (r.model, r.host)}
        known |= {name for r in tables.instances for name in (r.instance, r.accelerator, r.cloud)}
        said = " and ".join(x for x in (model and f"model {model!r}", host and f"host {host!r}") if x) or "that day"
        raise InputError(f"no price matches {said}", where=str(tables.folder), remedy=nearest(model or host, known))
    return [*apis, *machines]


def _place(row: InstancePrice) -> tuple[str, str, str]:
    return row.instance, row.cloud, row.region


def print_rows(rows: Sequence[Row]) -> None:
    """Print API rows and machines as two tables."""
    out = Console(width=None if Console().is_terminal else WIDE)
    _print(
        out,
        "APIs, per million tokens",
        ("model", "host", "input", "output", "cache read / write", "batch in / out", "from", "checked", "ends", "source"),
        [_api(r) for r in rows if isinstance(r, ApiPrice)],
    )
    _print(
        out,
        "Machines, an hour",
        ("instance", "cloud", "GPUs", "on demand", "spot", "1 year", "3 years", "from", "checked", "source"),
        [_machine(r) for r in rows if isinstance(r, InstancePrice)],
    )


def _print(out: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for cells in rows:
        table.add_row(*map(escape, cells))
    out.print(table)


def _api(r: ApiPrice) -> tuple[str, ...]:
    tiers = "".join(f" (above {t.above_input_tokens}: {t.input}/{t.output})" for t in r.context_tiers)
    money = "" if r.currency == "USD" else f" {r.currency}"
    cache, batch = (r.cache_read, r.cache_write), (r.batch.input, r.batch.output)
    dates = (str(r.effective_from or "undated"), str(r.checked_on), str(r.deprecated_on or ""))
    return (r.model, r.host, f"{r.input}{money}", f"{r.output}{tiers}", _pair(cache), _pair(batch, "x"), *dates, r.source)


def _machine(r: InstancePrice) -> tuple[str, ...]:
    what = f"{r.accelerators} x {r.accelerator}"
    money = [str(p) if p is not None else "" for p in (r.on_demand, r.spot, r.reserved_1y, r.reserved_3y)]
    return (r.instance, r.cloud, what, *money, str(r.effective_from or "undated"), str(r.checked_on), r.source)


def _pair(values: tuple[object, object], sign: str = "") -> str:
    return " / ".join(f"{sign}{v}" if v is not None else "-" for v in values) if any(v is not None for v in values) else ""
