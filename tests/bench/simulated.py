"""A simulated engine with a known capacity: rows as the recorder would have written them, without a clock or a socket."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from tokenhour.bench.statistics.early_stop import certain_to_miss
from tokenhour.bench.statistics.rate_search import Bracket, next_rate, window_s
from tokenhour.bench.statistics.slo import may_miss, misses
from tokenhour.bench.summary.capacity import with_point
from tokenhour.bench.summary.load_point import load_point
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.bench.workload import arrivals
from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.records.probe import EngineCounters, Probe
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint

NOBODY = EngineCounters()
CAPACITY = 6.23
"""Of the default engine at p90 TTFT <= 0.6 s, requests/s: 24 runs of 150,000 requests each at 6.1 to 6.4; `make bench-self`
computes it again."""
TOKENS = 8


class Engine:
    """`slots` requests at once, each for an exponential or fixed time of mean `service_s`; the others wait in line."""

    def __init__(self, slots: int = 8, service_s: float = 1.0, variation: float = 0.3, edge_s: float = 5.0) -> None:
        self.slots, self.service_s, self.variation, self.edge_s = slots, service_s, variation, edge_s
        self.saturated_rps = slots / service_s
        self.spent_s = 0.0

    def served(self, times: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[float, float, float]]:
        """Yield (arrival, begin, service time), first come first served."""
        shape = 1 / self.variation**2
        service = rng.gamma(shape, self.service_s / shape, len(times)).tolist()
        free = [0.0] * self.slots
        for at, takes in zip(times.tolist(), service, strict=True):
            begins = max(at, free[0])
            heapq.heapreplace(free, begins + takes)
            yield at, begins, takes

    def first_tokens(self, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return each arrival's TTFT: the first token comes an eighth of the service time after a slot was free."""
        return np.asarray([begins - at + takes / TOKENS for at, begins, takes in self.served(times, rng)])

    def rows(self, times: np.ndarray, rng: np.random.Generator) -> list[RequestRow]:
        """Return the requests as the recorder would have written them."""
        return [
            _row(k, at, (begins - at) + np.linspace(takes / TOKENS, takes, TOKENS))
            for k, (at, begins, takes) in enumerate(self.served(times, rng))
        ]

    def probe(
        self, spec: BenchSpec, rate: float, length_s: float, seed: int, number: int = 0
    ) -> tuple[LoadPoint, list[RequestRow]]:
        """Run a probe in simulated time, stopped early as the real one is; add what it cost."""
        rng = np.random.default_rng([seed, number])
        horizon = 2 * self.edge_s + length_s
        rows = self.rows(arrivals.poisson(rate, horizon, rng), rng)
        inside = [r for r in rows if self.edge_s <= r.scheduled_s < self.edge_s + length_s]
        ends = max(horizon, max((r.finished_s for r in rows), default=0.0))
        stop = self._certain(inside, spec)
        probe = Probe(
            probe=number, phase="search", arrivals="poisson", offered_rps=rate, concurrency=None, started_s=0.0,
            window_start_s=self.edge_s,
            window_s=length_s if stop is None else min(length_s, max(1.0, stop - self.edge_s)),
            drained_s=ends, stopped_early=stop is not None, before=NOBODY, after=NOBODY,
            planned_requests=len(inside), planned_window_s=length_s,
        )  # fmt: skip
        self.spent_s += ends if stop is None else stop
        kept = rows if stop is None else [r for r in rows if r.finished_s <= stop]
        return load_point(probe, kept, Telemetry(), spec), kept

    def _certain(self, inside: list[RequestRow], spec: BenchSpec) -> float | None:
        """Return when the finished requests first made the outcome certain, looked at once a second."""
        done = sorted(inside, key=lambda r: r.finished_s)
        allowed = may_miss(len(inside), spec.slo.percentile)
        counts = np.cumsum([misses(r, spec.slo) for r in done], axis=0)
        over = np.flatnonzero(counts.max(axis=1) > allowed) if done else np.empty(0, dtype=np.int64)
        if not len(over):
            return None
        stop = float(np.ceil(done[over[0]].finished_s))
        assert certain_to_miss((r for r in done if r.finished_s <= stop), len(inside), spec.slo)
        return stop


def _row(number: int, at: float, offsets: np.ndarray) -> RequestRow:
    return RequestRow(
        request_id=str(number), probe=0, worker=0, scheduled_s=at, sent_s=at, first_token_s=at + offsets[0],
        last_token_s=at + offsets[-1], finished_s=at + offsets[-1], outcome="success", status=200, detail="",
        prompt_tokens_requested=10, output_tokens_requested=TOKENS, prompt_tokens=10, completion_tokens=TOKENS,
        cached_tokens=None, first_chunk_tokens=1, chunks=TOKENS, chunk_offsets_s=offsets,
        chunk_tokens=np.ones(TOKENS, dtype=np.int32), finish_reason="length",
    )  # fmt: skip


def capacity_of(engine: Engine, spec: BenchSpec, around: float, length_s: float = 25_000.0, runs: int = 6) -> float:
    """Compute the true capacity: where the share that misses, over very long times at rates `around` it, is the allowed one.

    A straight line through logarithms, as near the capacity the share nearly is one; 600 s would be 3 % uncertain.
    """
    rates = around * np.asarray([0.98, 0.995, 1.01, 1.025])
    missed = [
        np.mean(
            [
                np.mean(
                    engine.first_tokens(
                        arrivals.poisson(rate, length_s, np.random.default_rng([777, k, run])),
                        np.random.default_rng([778, k, run]),
                    )
                    > spec.slo.ttft_s
                )
                for run in range(runs)
            ]
        )
        for k, rate in enumerate(rates)
    ]
    slope, at = np.polyfit(np.log(missed), np.log(rates), 1)
    return float(np.exp(at + slope * np.log(1 - spec.slo.percentile / 100)))


def search(engine: Engine, spec: BenchSpec, seed: int) -> tuple[Bracket, list[LoadPoint]]:
    """Search as `tokenhour.bench.run` does; return the bracket and the points."""
    found = Bracket(engine.saturated_rps)
    points: list[LoadPoint] = []
    engine.spent_s = spec.search.saturation_s + 2 * engine.edge_s
    while (step := next_rate(found, spec.search)) is not None:
        length = window_s(step.rate_rps, spec.search, spec.slo)
        point, _ = engine.probe(spec, step.rate_rps, length, seed, len(points))
        points.append(point)
        found = with_point(found, point, spec.slo)
    return found, points


def sweep_cost_s(engine: Engine, spec: BenchSpec, seed: int) -> float:
    """Return the server time of a sweep of 10 whole windows over the same range: none is stopped early."""
    engine.spent_s = spec.search.saturation_s + 2 * engine.edge_s
    for k in range(10):
        rate = engine.saturated_rps * (0.1 + 0.1 * k)
        rng = np.random.default_rng([seed, 100 + k])
        horizon = 2 * engine.edge_s + window_s(rate, spec.search, spec.slo)
        rows = engine.rows(arrivals.poisson(rate, horizon, rng), rng)
        engine.spent_s += max(horizon, *(r.finished_s for r in rows))
    return engine.spent_s
