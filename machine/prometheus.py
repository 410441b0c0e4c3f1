"""An engine's /metrics: one reader for all that look at it.

The sampler reads beside a load that is being measured, so the parser gets the lines of the wanted series alone.
"""

from __future__ import annotations

import math
import urllib.request
from collections.abc import Container, Iterable

from tokenhour.machine.http import NO_ANSWER, urlopen


def totals(text: str, wanted: Container[str] | None = None) -> dict[str, float]:
    """Return the value of each series of a Prometheus text, added over its labels; all series where `wanted` is None.

    What is not a number is no reading. Raises ValueError for a line that is none of the format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    lines: Iterable[str] = (line for line in text.splitlines() if line and line[0] != "#")
    if wanted is not None:
        lines = (line for line in lines if line.split("{", 1)[0].split(" ", 1)[0] in wanted)
    found: dict[str, float] = {}
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if not math.isnan(sample.value):
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def read_metrics(
    base_url: str, wanted: Container[str] | None = None, *, timeout_s: float = 1.0, key: str = ""
) -> dict[str, float]:
    """Fetch /metrics and return its `totals`; empty when the server has none or does not answer.

    `key`: the API key; some servers ask for it here too.
    """
    heads = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(urllib.request.Request(f"{base_url}/metrics", headers=heads), timeout_s) as reply:
            return totals(reply.read().decode(errors="replace"), wanted)
    except (*NO_ANSWER, ValueError):
        return {}
