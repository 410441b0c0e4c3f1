"""How the report writes figures."""

from __future__ import annotations

from tokenhour.contracts.units import human_bytes, human_count, human_seconds

NOTHING = "\u2013"


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


def signed_usd(value: float | None) -> str:
    """Write a difference with its sign."""
    return NOTHING if value is None else f"+{usd(value)}" if value > 0 else usd(value)


def percent(value: float | None) -> str:
    """Write a share; small ones keep two digits."""
    if value is None:
        return NOTHING
    return f"{value:.1%}" if value == 0 or abs(value) >= 0.01 else f"{100 * value:.2g}%"


def count(value: float | None) -> str:
    """Write a volume of tokens."""
    return NOTHING if value is None else human_count(value)


def seconds(value: float | None) -> str:
    """Write a duration."""
    return NOTHING if value is None else human_seconds(value)


def number(value: float | None) -> str:
    """Write three digits."""
    return NOTHING if value is None else f"{value:.3g}"


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
