"""One telemetry sample. Rows of telemetry.parquet; times in seconds on the run's monotonic clock.

The table is long: one row a sample and metric, so that a counter that a device does not offer is absent, not zero.

History
    1  first version
"""

from __future__ import annotations

from dataclasses import dataclass

TELEMETRY_FILE = "telemetry.parquet"


@dataclass(frozen=True, slots=True)
class TelemetryRow:
    """A sampled value, such as (12.3, "gpu", "0", "power_w", 412.0)."""

    t_s: float
    source: str
    """`host`, `engine` (its /metrics), `process` (the engine's tree), `generator` or `gpu`."""
    index: str
    """Which GPU, engine or load process; empty where there is one of its kind, and for the first."""
    metric: str
    """Name with its unit, such as cpu_share, rss_bytes, power_w, energy_j, generation_tokens_total."""
    value: float
