"""What was done to the server, probe by probe: raw, so that a summary can be derived again.

History
    1  first version; where conversations were measured before all rates counted requests, offered_rps and planned_requests
       count conversations; later with `interrupted_by`, which older records lack
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.record import Part, Record

Decider = Literal["nice", "autogroup", "cgroup"]


class CpuPriority(Part):
    """What was done so that the load generator does not wait for a core beside its engine."""

    action: Literal["not shared", "raised", "engine lowered", "neither"]
    """`not shared`: no process of the engine may run on the generator's cores, as far as they are known here."""
    decided_by: Decider | None = None
    """What the kernel weighs the two by: their nice values, the autogroups of their sessions, or CPU weights of cgroups."""
    why: str = ""
    """Which cgroups, where they decide; and where something was not permitted, what, with the system's reason."""


class EngineCounters(Part):
    """The engine's own totals since its start; None where it does not offer one."""

    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None


class Probe(Part):
    """One probe: what was offered and when (seconds on the run's clock)."""

    probe: int
    phase: Literal["saturation", "search", "confirm", "sweep", "fixed"]
    arrivals: Literal["closed", "poisson", "constant", "gamma", "bursts", "diurnal", "trace"]
    offered_rps: float | None
    """Open loop only. Requests/s, every turn of a conversation counted."""
    concurrency: int | None
    started_s: float
    """The schedule's zero."""
    window_start_s: float
    window_s: float
    drained_s: float
    """When the last request had ended."""
    stopped_early: bool
    """Its outcome was certain before its end; the window is what was measured until then."""
    before: EngineCounters
    after: EngineCounters
    planned_requests: int | None = None
    """Open loop: scheduled inside the window as it was planned; of conversations the most turns that can be, since the later
    ones wait for answers. A probe that is stopped early is judged against it."""
    planned_window_s: float | None = None
    instead_of: int | None = None
    """The probe that this one measured again, because it was disturbed; that one stands here and bears no result."""
    workers: int = 1
    expected_prefix_hit_rate: float | None = None
    """Share of the planned prompt tokens that repeat earlier ones: the most that a prefix cache can find."""


class Probes(Record):
    """All probes of a run, in order."""

    file_name: ClassVar[str] = "probes.json"
    record: Literal["probes"] = "probes"
    version: Literal[1] = 1
    clock_anchor_utc: str
    """Wall time at zero of the run's clock."""
    clock_zero_monotonic_s: float
    """time.monotonic() of the measuring process at zero."""
    salt: str
    """What kept this run's prompts out of the prefix cache."""
    probes: tuple[Probe, ...]
    wanted: Literal["search", "sweep", "fixed"] = "search"
    interrupted: str | None
    """Why the run ended before its time, if it did."""
    interrupted_by: Literal["user", "failure"] | None = None
    """Who ended it; None where it ended by itself, and in records older than this field."""
    uncertified: str | None = None
    """Why the generator has no certificate, such as `no compiler: generator uncertified`."""
    text_source: str | None = None
    """Where the text of the prompts comes from, and its licence; None in records older than this field."""
    cpu_priority: CpuPriority | None = None
    """How generator and engine shared the CPU; None in records older than this field, and where no process was started."""

    def standing(self) -> tuple[Probe, ...]:
        """Return the probes that bear results: those that were not measured again."""
        replaced = {probe.instead_of for probe in self.probes}
        return tuple(probe for probe in self.probes if probe.probe not in replaced)
