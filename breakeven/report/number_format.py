"""How figures are written, on the page, in tables, on plots and on a terminal: the one set of formatters."""

from __future__ import annotations

from tokenhour.contracts.record import Interval
from tokenhour.contracts.units import human_bytes, human_count, human_seconds

NOTHING = "\u2013"
ALMOST_SURE = 0.999
"""So many draws cannot say more."""


def usd(value: float | None) -> str:
    """Write dollars: none of the cents above 1000, more digits below 1."""
    if value is None:
        return NOTHING
    sign, size = ("\u2212" if value < 0 else ""), abs(value)
    if size and size < 1:
        return f"{sign}${size:.3g}"
    return f"{sign}${size:,.0f}" if size >= 1000 else f"{sign}${size:,.2f}"


def usd3(value: float | None) -> str:
    """Write a price of a million tokens or of an hour."""
    return NOTHING if value is None else f"${value:,.3f}" if value >= 0.1 or not value else f"${value:.3g}"


def cents(value: float | None) -> str:
    """Write an amount to the cent, with more digits below one."""
    if value is None:
        return NOTHING
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.2f}" if abs(value) >= 1 or not value else f"{sign}${abs(value):.3g}"


def axis_usd(value: float, _: object = None) -> str:
    """Label an axis in dollars: $0.05, $20, $3k."""
    sign, size = ("\u2212" if value < 0 else ""), abs(value)
    if size >= 1000:
        return f"{sign}${human_count(size)}"
    return f"{sign}${size:,.0f}" if size >= 10 or size == 0 else f"{sign}${size:g}"


def signed_usd(value: float | None) -> str:
    """Write a difference with its sign."""
    return NOTHING if value is None else f"+{usd(value)}" if value > 0 else usd(value)


def percent(value: float | None) -> str:
    """Write a share; small ones keep two digits."""
    if value is None:
        return NOTHING
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.01 else f"{100 * value:.2g}%"


def share(value: float | None) -> str:
    """Write a share with one decimal."""
    return NOTHING if value is None else f"{value:.1%}"


def sure(chance: float) -> str:
    """Write a chance that draws gave: never as certain."""
    if chance > ALMOST_SURE:
        return f"over {ALMOST_SURE:.1%}"
    return f"under {1 - ALMOST_SURE:.1%}" if chance < 1 - ALMOST_SURE else share(chance)


def multiple(value: float | None) -> str:
    """Write a multiple."""
    return NOTHING if value is None else f"{value:.3g}x"


def count(value: float | None) -> str:
    """Write a volume of tokens."""
    return NOTHING if value is None else human_count(value)


def seconds(value: float | None) -> str:
    """Write a duration."""
    return NOTHING if value is None else human_seconds(value)


def number(value: float | None) -> str:
    """Write three digits."""
    return NOTHING if value is None else f"{value:.3g}"


def measured(value: float | None) -> str:
    """Write three digits, of a large figure as a count; a hyphen for none."""
    return "-" if value is None else human_count(value) if abs(value) >= 1000 else f"{value:.3g}"


def spread(found: Interval | None) -> str:
    """Write a figure with its interval."""
    if found is None:
        return "none"
    if found.low is None or found.high is None or found.low == found.high:
        return measured(found.value)
    return f"{measured(found.value)} [{measured(found.low)}-{measured(found.high)}]"


FILTERS = {
    "usd": usd,
    "usd3": usd3,
    "signed_usd": signed_usd,
    "percent": percent,
    "count": count,
    "seconds": seconds,
    "number": number,
    "bytes": human_bytes,
}
