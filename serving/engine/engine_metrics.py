"""How busy the engines are, read from their /metrics now and then: for `serving status` and the waste scan."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from tokenhour.machine.prometheus import read_metrics
from tokenhour.machine.run_folder import now_utc
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.state import EngineLoad

_PERIOD_S = 5.0
_WINDOW = 720
"""Samples that count: the last hour."""
RUNNING, WAITING, ANSWERED = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:request_success_total"


class Activity:
    """Samples of all replicas together."""

    def __init__(self, launches: Sequence[Launch], max_num_seqs: int) -> None:
        self._urls = [launch.base_url for launch in launches]
        self._capacity = len(launches) * max_num_seqs
        self._samples: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._done: float | None = None
        self._next = 0.0
        self._peak_waiting = 0.0
        self.last_request_utc: str | None = None

    def look(self) -> None:
        """Take a sample when it is time for one."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PERIOD_S
        sums = [read_metrics(url, (RUNNING, WAITING, ANSWERED)) for url in self._urls]
        if not any(sums):
            return
        running, waiting, done = (sum(found.get(name, 0.0) for found in sums) for name in (RUNNING, WAITING, ANSWERED))
        self._samples.append((time.monotonic(), running))
        self._peak_waiting = max(self._peak_waiting, waiting)
        # The first completion of each engine is the readiness probe's own.
        if self._done is not None and (done != self._done or running or waiting):
            self.last_request_utc = now_utc()
        self._done = done

    def load(self) -> EngineLoad:
        """Sum up the window."""
        if not self._samples:
            return EngineLoad(capacity=self._capacity)
        values = [running for _, running in self._samples]
        return EngineLoad(
            observed_s=round(self._samples[-1][0] - self._samples[0][0], 1),
            mean_running=round(sum(values) / len(values), 3),
            peak_running=max(values),
            peak_waiting=self._peak_waiting,
            capacity=self._capacity,
        )
