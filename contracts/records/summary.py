"""The summary of a run: derived from raw requests and telemetry, and derivable again.

History
    1  first version; later with `slo_probe` and `warning_codes`, which older records lack
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.config.bench import SloSpec, WorkloadSpec
from tokenhour.contracts.record import Interval, Part, Record
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.probe import CpuPriority


class Percentiles(Part):
    """Latency in seconds. None: not estimable from so few samples. A failed request counts as +infinity."""

    samples: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    at_slo_s: float | None
    """At the SLO's percentile."""
    unbounded: bool = False
    """The SLO's percentile falls among failed requests: +infinity."""


class LoadPoint(Part):
    """One probe: what was offered, what came back inside the steady window, whether the SLO held."""

    probe: int
    phase: Literal["saturation", "search", "confirm", "sweep", "fixed"]
    arrivals: Literal["closed", "poisson", "constant", "gamma", "bursts", "diurnal", "trace"]
    offered_rps: float | None
    """Open loop only. Requests/s, every turn of a conversation counted, as in completed_rps and goodput_rps."""
    concurrency: int | None
    """Closed loop only."""
    window_start_s: float
    window_s: float
    requests: int
    """Scheduled inside the window."""
    succeeded: int
    failed: int
    completed_rps: float
    goodput_rps: float
    """Requests a second that met every bound."""
    input_tps: float
    """Prompt tokens a second of requests whose first token fell inside the window."""
    output_tps: float
    """Tokens a second emitted inside the window."""
    ttft: Percentiles
    """From the scheduled arrival."""
    ttft_from_sent: Percentiles
    tpot: Percentiles
    e2e: Percentiles
    """Last token from the scheduled arrival."""
    e2e_from_sent: Percentiles | None = None
    """Absent in summaries from before it was kept."""
    interchunk: Percentiles
    """Gaps between chunks, of all requests; a failed request is one gap without an end."""
    lag_p99_s: float | None
    """Scheduled to sent: how late the generator itself was."""
    slo_met: bool | None
    """None for a closed-loop probe, or where the samples do not suffice."""
    slo_reasons: tuple[str, ...]
    stable: bool | None
    """Completions kept up with the offered rate inside the window; None for closed loop."""
    usage_prompt_tokens: int
    """Whole probe, from the server's `usage`."""
    usage_completion_tokens: int
    engine_prompt_tokens: int | None
    """Whole probe, from the engine's counters."""
    engine_generation_tokens: int | None
    token_disagreement: float | None
    """Largest relative difference between usage, engine counters and the requests' caps; None where a request failed or the
    engine has no counters, unless usage is above a cap."""
    prefix_hit_rate: float | None
    """Share of prompt tokens that the prefix cache found: by the engine's counters, else by `cached_tokens` of the usage."""
    kv_cache_peak: float | None
    """Share of the KV cache in use, highest."""
    host_cpu_share: float | None
    generator_cpu_share: float | None
    """Of one core."""
    energy_j: float | None
    """Over the same window; None where nothing measures it."""
    stopped_early: bool = False
    """Its outcome was certain before its end."""
    chunks_per_s: float = 0.0
    """Token-bearing chunks that came in the window: what the generator's certificate is about."""
    expected_prefix_hit_rate: float | None = None
    """Share of the planned prompt tokens that repeat earlier ones: the most that the prefix cache can find."""
    missed_share: float | None = None
    """Share of the window's requests that missed a bound: of that bound which most of them missed."""
    tpot_left_out: int = 0
    """Successes of a single chunk: TPOT is undefined there, and its percentiles are of the others."""
    generator_wait_s: float | None = None
    """In the worst second of the window, how long a load process was ready to run and had no CPU; None: not sampled."""
    steal_s: float | None = None
    """In the worst second of the window, how long the hypervisor kept a CPU from this machine, mean over its CPUs."""

    @property
    def passed(self) -> bool:
        """Whether an open-loop probe met the SLO and was stable."""
        return self.slo_met is True and self.stable is True


LagCause = Literal["waited for a CPU", "hypervisor", "unexplained"]


class Reason(Part):
    """Why a run is INVALID: the rule, what was measured, the limit."""

    rule: str
    measured: str
    limit: str
    probe: int | None = None
    cause: LagCause | None = None
    """Of client lag: what held the load generator up."""
    explanation: str = ""
    """The cause with its figure, for people."""
    remedy: str = ""

    def found(self) -> str:
        """Say what was measured, and the cause where it is known."""
        return f"{self.rule}: {self.measured}{f' ({self.explanation})' if self.explanation else ''}"


class TokensPerHour(Part):
    """Tokens per accelerator-hour, input and output always apart, at one operating point."""

    rate_rps: float | None
    """Offered rate of that point; None for the closed-loop peak."""
    input_tokens_per_hour: Interval
    output_tokens_per_hour: Interval


class CertificateClaim(Part):
    """The generator's certificate beside what was asked of it."""

    ceiling_chunks_per_s: float
    ceiling_requests_per_s: float
    ttft_error_p99_s: float
    interchunk_error_p99_s: float
    highest_chunks_per_s: float
    """Of any probe."""


WarningCode = Literal[
    "uncertified",
    "server",
    "load workers not sampled",
    "tokens not checked",
    "prefix cache not checked",
    "prefix cache missed",
    "short SLO window",
    "no rate met the SLO",
    "every rate met the SLO",
    "energy not measured",
    "shared CPU",
    "measured again",
]
"""What a warning is about: programs decide by it, never by the words."""
_ABOUT_THE_SLO: tuple[WarningCode, ...] = ("short SLO window", "no rate met the SLO", "every rate met the SLO")


class Summary(Record):
    """What `bench` found: tokens per accelerator-hour, at the peak and at the SLO, and whether to believe it."""

    file_name: ClassVar[str] = "summary.json"
    record: Literal["summary"] = "summary"
    version: Literal[1] = 1
    run: str
    scheme: str
    model_name: str
    engine: str
    accelerator: Accelerator
    workload: WorkloadSpec
    slo: SloSpec
    validity: Literal["VALID", "INVALID"]
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]
    """What a reader should know though it does not invalidate the run."""
    warning_codes: tuple[WarningCode, ...] = ()
    """What each of `warnings` is about; empty in records from before it was kept."""
    peak: TokensPerHour
    at_slo: TokensPerHour | None
    """None when no tested rate met the SLO."""
    slo_probe: int | None = None
    """The probe whose point is the capacity at the SLO: energy and power are its own. None where no tested rate met the
    SLO, and in records from before it was kept."""
    highest_passing_rps: float | None
    lowest_failing_rps: float | None
    """None when every tested rate passed."""
    load_curve: tuple[LoadPoint, ...]
    mean_prompt_tokens: float
    mean_output_tokens: float
    measuring_s: float
    """Server time that the search cost, s; times `accelerator.count` it is what it cost in accelerator-seconds."""
    energy_j_per_output_token: float | None
    bytes_per_checkpoint: int
    perplexity_ratio: float | None
    mean_kl_divergence: float | None
    quality_gate: Literal["PASS", "FAIL", "none"]
    cold_start_s: float | None
    clock_anchor_utc: str
    """Wall time at zero of the run's clock."""
    disturbed: tuple[LoadPoint, ...] = ()
    """Probes that were disturbed and measured again: kept, and in no figure of this summary but `measuring_s`."""
    cpu_priority: CpuPriority | None = None
    """How load generator and engine shared the CPU; None in records from before it was kept."""
    certificate: CertificateClaim | None = None
    """None where the generator was not calibrated."""
    uncertified: str | None = None
    """Why there is no certificate: the verdict holds only as far as the generator can be trusted without one."""
    synthetic: tuple[str, ...]
    """What in this run is not real, such as dummy weights; empty for a real one."""
    inputs: dict[str, str]
    """sha256 of experiment sections, checkpoint.json, server.json, requests and telemetry."""

    def slo_point(self) -> LoadPoint | None:
        """Return the probe that is the capacity at the SLO; None when no tested rate met it.

        Of a record from before `slo_probe` was kept the first stable probe that met the SLO at the highest passing rate.
        """
        if self.slo_probe is not None:
            return next((p for p in self.load_curve if p.probe == self.slo_probe), None)
        return next((p for p in self.load_curve if p.passed and p.offered_rps == self.highest_passing_rps), None)

    def saturated_point(self) -> LoadPoint | None:
        """Return the probe that saturated the server; None where there was none."""
        return next((p for p in self.load_curve if p.phase == "saturation"), None)

    def slo_warnings(self) -> tuple[str, ...]:
        """Return the warnings that qualify the capacity at the SLO."""
        if len(self.warning_codes) != len(self.warnings):  # older records have words alone, and theirs do not change
            return tuple(said for said in self.warnings if "SLO" in said)
        coded = zip(self.warnings, self.warning_codes, strict=True)
        return tuple(said for said, code in coded if code in _ABOUT_THE_SLO)
