"""What the load generator can do on this machine, measured against a deterministic server of its own.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.record import Part, Record


class Accuracy(Part):
    """The generator's times less the reference server's own, in seconds."""

    streams: int
    ttft_error_mean_s: float
    ttft_error_p99_s: float
    interchunk_error_p99_s: float
    """Of the absolute difference of each gap."""


class Level(Part):
    """One load that was tried while the ceiling was looked for."""

    streams: int
    chunks_per_s: float
    ttft_error_p99_s: float
    followed: bool
    """Its times were right and every stream was kept busy."""
    server_on_time: bool
    """The reference server kept to its own schedule."""


class Certificate(Record):
    """Ceiling and error of the generator, on the machine that it was measured on."""

    file_name: ClassVar[str] = "certificate.json"
    record: Literal["certificate"] = "certificate"
    version: Literal[1] = 1
    ceiling_chunks_per_s: float
    """Highest rate that was followed; a lower bound where `limited_by` is the reference server."""
    ceiling_requests_per_s: float
    ttft_error_p99_s: float
    """At light load; the levels hold those near the ceiling."""
    ttft_error_mean_s: float
    interchunk_error_p99_s: float
    light: Accuracy
    levels: tuple[Level, ...]
    ttft_limit_s: float
    """Largest p99 TTFT error with which a level counts as followed."""
    limited_by: Literal["generator", "reference server", "the levels tried"]
    reference: str
    """Which server it was measured against, such as refserver.c with gcc 12."""
    workers: int
    cores: int
    kernel_timestamps: bool
    machine_sha256: str
    code_sha256: str
    """Of the generator's own source: another version is calibrated again."""
    seconds: float
    calibrated_utc: str
