"""Constants and conversions; every quantity elsewhere carries its unit in its name.

Money rule: prices are `Decimal` where they are read from a table and compared for equality, and `float` USD in every
derived figure. Token counts are `int` where counted and `float` where derived.
"""

SECONDS_PER_HOUR = 3600.0
HOURS_PER_MONTH = 730.0  # the cloud vendors' month: 8,760 h / 12
HOURS_PER_YEAR = 8760.0
TOKENS_PER_MTOK = 1_000_000.0
BYTES_PER_MIB = 1024**2
BYTES_PER_GIB = 1024**3


def per_hour(per_second: float) -> float:
    """Convert a rate from 1/s to 1/h."""
    return per_second * SECONDS_PER_HOUR


def human_bytes(count: float) -> str:
    """Write bytes the way disks are sold (decimal): 162.6 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def human_count(count: float) -> str:
    """Write a token volume in three digits: 769k, 1.54M, 3.1B, 2.2T."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 0.9995 * factor:  # 999.6k is written 1M, not 1e+03k
            return f"{count / factor:.3g}{suffix}"
    return f"{count:.3g}"


def human_seconds(seconds: float) -> str:
    """Write a duration as people say it: 35 ms, 0.42 s, 37 s, 4 min 05 s."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 else "0 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
