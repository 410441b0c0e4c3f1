"""The policy of the waste scan: when something counts as waste, and which of it may be stopped.

History
    1  first version
"""

from __future__ import annotations

from typing import Literal

from tokenhour.contracts.record import Count, Fraction, NotNegative, Part, Positive

Pattern = Literal[
    "idle-sweep", "detached-notebook", "peak-sized-fleet", "forgotten-clone", "pinned-idle-weights", "idle-memory"
]


class ScanPolicy(Part):
    """A YAML file for `tokenhour serving scan --policy`."""

    record: Literal["scan-policy"] = "scan-policy"
    version: Literal[1] = 1
    idle_minutes: Positive = 30.0
    """Idle for so long is waste."""
    gpu_idle_share: Fraction = 0.05
    """A GPU whose utilization stays at or below this does nothing."""
    min_memory_mib: NotNegative = 500.0
    """A process that holds less of a GPU is left alone."""
    fleet_share: Fraction = 0.4
    """A fleet whose busiest moment stays below this share of its sequences is sized for a peak that never comes."""
    fleet_minutes: Positive = 60.0
    """Over at least so long."""
    sample_s: Positive = 3.0
    """How long GPUs and servers are watched in one scan; what was seen before is kept between scans."""
    samples: Count = 6
    stop: tuple[Pattern, ...] = ()
    """What `--stop` may stop. peak-sized-fleet is never stopped, only told."""
    protect: tuple[str, ...] = ()
    """Regular expressions: a process whose command line, or a server whose run matches one, is never stopped."""
