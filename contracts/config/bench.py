"""The `bench` section of an experiment: the load and the latency objective."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, model_validator

from tokenhour.contracts.record import Count, Fraction, NotNegative, Part, Positive, is_recorded

SALT_TOKENS = 8
"""Of each prompt: drawn anew for every request of every run."""


class LengthSpec(Part):
    """Token lengths of prompts or outputs: `fixed`, `uniform` or `lognormal`, cut to [min, max]."""

    distribution: Literal["fixed", "uniform", "lognormal"] = "fixed"
    mean_tokens: Positive
    """The value itself for `fixed`; the mean before cutting for `lognormal`; for `uniform` the middle of its two ends."""
    cv: NotNegative = 0.0
    """Coefficient of variation of `lognormal`."""
    min_tokens: Count = 1
    """Given explicitly for `uniform`, as is max_tokens."""
    max_tokens: Count = 1_000_000

    @model_validator(mode="after")
    def _ordered(self, info: ValidationInfo) -> LengthSpec:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        if self.distribution != "fixed" and not self.min_tokens <= self.mean_tokens <= self.max_tokens:
            raise ValueError("mean_tokens is outside [min_tokens, max_tokens]")
        if self.distribution == "uniform" and not is_recorded(info):  # what was measured before this rule stays readable
            self._check_uniform()
        return self

    def _check_uniform(self) -> None:
        """Only the ends are drawn from: a mean that they do not have would be a promise that nobody keeps."""
        missing = [name for name in ("min_tokens", "max_tokens") if name not in self.model_fields_set]
        if missing:
            raise ValueError(f"uniform wants {' and '.join(missing)} beside mean_tokens, their middle")
        middle = (self.min_tokens + self.max_tokens) / 2
        if abs(self.mean_tokens - middle) > 0.5:
            raise ValueError(
                f"mean_tokens = {self.mean_tokens:g} is not the middle of {self.min_tokens} and {self.max_tokens}: "
                f"write {middle:g}, or other ends"
            )


class RequestsFile(Part):
    """Requests from a file: token lengths row by row and, for `arrivals.process: trace`, their times."""

    file: str
    format: Literal["auto", "pairs", "azure", "burstgpt", "mooncake"] = "auto"
    """`pairs`: columns or fields prompt_tokens, completion_tokens and if there are any timestamp_s (what `bench import-log`
    writes); the others are the public trace formats. `auto` tells by the columns."""


class SharedPrefix(Part):
    """Prompts of one group begin with the same tokens: system prompts, documents asked about again."""

    groups: Count = 1
    tokens: Count
    """Length of the prefix; part of the prompt's length."""


class Conversations(Part):
    """Each arrival is a conversation; a turn's prompt repeats all earlier turns with answers of the requested length.

    All rates count requests, that is turns: at 6 requests/s two conversations of 3 turns begin each second.

    The answers in the history are bundled text, not what the model said: lengths are exact, the prefix cache finds the
    earlier prompt and not the earlier answer.
    """

    turns: Annotated[int, Field(ge=2)]
    think_s: NotNegative = 0.0
    """From an answer's end to the next turn's scheduled arrival."""


class WorkloadSpec(Part):
    """What is asked of the server: lengths by distribution (`prompt` and `output`) or from a file (`requests`)."""

    name: str = "chat"
    prompt: LengthSpec | None = None
    """Of each new prompt; of a conversation's turn, what the turn adds."""
    output: LengthSpec | None = None
    requests: RequestsFile | None = None
    shared_prefix: SharedPrefix | None = None
    conversations: Conversations | None = None
    seed: int = 0
    """Chooses lengths, text and arrival times; a salt a run keeps a repeated seed out of the prefix cache."""
    declared_prefix_hit_rate: Fraction = 0.0
    """Share of prompt tokens that may come from the prefix cache; a measured rate above it is INVALID."""

    @model_validator(mode="after")
    def _one_source(self) -> WorkloadSpec:
        lengths = self.prompt is not None and self.output is not None
        if (self.requests is None) != lengths:
            raise ValueError("wants either prompt and output, or requests")
        if self.requests and (self.shared_prefix or self.conversations):
            raise ValueError("requests from a file have no shared_prefix and no conversations")
        if self.shared_prefix and self.prompt:
            least = round(self.prompt.mean_tokens) if self.prompt.distribution == "fixed" else self.prompt.min_tokens
            if self.shared_prefix.tokens + SALT_TOKENS > least:
                raise ValueError(f"shared_prefix.tokens wants prompts of at least {self.shared_prefix.tokens + SALT_TOKENS}")
        return self


class ArrivalSpec(Part):
    """How requests arrive. All but `closed` are schedules of absolute times, drawn before the run from the seed."""

    process: Literal["poisson", "constant", "gamma", "bursts", "diurnal", "trace", "closed"] = "poisson"
    burstiness: Positive = 1.0
    """`gamma`: shape of the gaps; 1 is Poisson, below it comes in bursts (coefficient of variation 1/sqrt)."""
    on_s: Positive = 1.0
    """`bursts`: Poisson arrivals for so long, then none for off_s; the mean rate is the offered one, over whole cycles: a
    window holds no others."""
    off_s: Positive = 1.0
    hourly_share: tuple[NotNegative, ...] = ()
    """`diurnal`: the shape of a day in equal parts, such as 24 hours."""
    day_s: Positive = 86_400.0
    """`diurnal`: how long that day lasts in the run, at most search.max_probe_s: a window holds whole days."""
    rates_rps: tuple[Positive, ...] = ()
    """Measure at these rates instead of searching: requests/s, every turn of a conversation counted."""
    concurrency: tuple[Count, ...] = ()
    """`closed`: measure with so many requests at once, instead of searching."""

    @property
    def cycle_s(self) -> float | None:
        """After how long the rate repeats its pattern, s; None where it has none, and for a trace: there the rate tells."""
        return {"bursts": self.on_s + self.off_s, "diurnal": self.day_s}.get(self.process)

    @model_validator(mode="after")
    def _complete(self) -> ArrivalSpec:
        if self.process == "diurnal" and not sum(self.hourly_share):
            raise ValueError("diurnal wants hourly_share, the shape of a day")
        if (self.process == "closed") != bool(self.concurrency):
            raise ValueError("closed and concurrency go together")
        if self.rates_rps and self.process == "closed":
            raise ValueError("a closed loop has no rate; give concurrency")
        return self


class SloSpec(Part):
    """The latency objective, judged from the *scheduled* arrival. At least one bound is given."""

    percentile: Annotated[float, Field(ge=50, le=99.9)]
    """Of the requests that must meet each bound, %: without it an objective says nothing."""
    ttft_s: Positive | None = None
    """Time to first token."""
    tpot_s: Positive | None = None
    """Time per output token after the first."""
    e2e_s: Positive | None = None
    """Whole request."""

    @model_validator(mode="after")
    def _bounded(self) -> SloSpec:
        if self.ttft_s is None and self.tpot_s is None and self.e2e_s is None:
            raise ValueError("has no bound; give ttft_s, tpot_s or e2e_s")
        return self


class SearchSpec(Part):
    """How the SLO capacity is looked for."""

    saturation_s: Positive = 20.0
    """Length of the closed-loop probe that measures the peak."""
    probe_s: Positive = 20.0
    """Shortest steady window of one rate."""
    warmup_s: NotNegative = 3.0
    """Lead-in of each probe, kept apart from the statistics."""
    saturation_warmup_s: NotNegative | None = None
    """Lead-in of a closed loop; absent: warmup_s. It begins with all prompts at once, which have to be read first (8 s for
    384 of 512 tokens and an 8B model on an H100)."""
    max_probes: Annotated[int, Field(ge=2)] = 6
    """Most open-loop rates tried."""
    max_probe_s: Positive = 60.0
    """Longest window; a rate too low to give the percentile its samples in it is not estimable."""
    precision: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Stop when the lowest failing rate is within this share of the highest passing one."""
    confirm: Annotated[int, Field(ge=0, le=5)] = 0
    """Repeats of the highest passing rate, each with other arrivals; most of them must pass, or the search goes on below."""


class BenchSpec(Part):
    """The load and the objective."""

    workload: WorkloadSpec
    arrivals: ArrivalSpec = ArrivalSpec()
    slo: SloSpec
    search: SearchSpec = SearchSpec()
    timeout_s: Positive = 120.0
    """Whole request."""
    inactivity_timeout_s: Positive = 30.0
    """Between two chunks."""
    telemetry_hz: Annotated[float, Field(gt=0, le=100)] = 10.0

    @model_validator(mode="after")
    def _whole_cycles(self, info: ValidationInfo) -> BenchSpec:
        """A window of a part of a cycle would be offered another rate than it says."""
        cycle_s, longest_s = self.arrivals.cycle_s, self.search.max_probe_s
        if cycle_s is not None and cycle_s > longest_s and not is_recorded(info):  # as for uniform lengths
            name = "day_s" if self.arrivals.process == "diurnal" else "on_s + off_s"
            raise ValueError(
                f"arrivals: {name} = {cycle_s:g} s is longer than the longest window, search.max_probe_s = {longest_s:g} s, "
                f"which would see a part of it and not its mean rate: fit it into {self.search.probe_s:g} s (probe_s), "
                "or lengthen the window"
            )
        return self
