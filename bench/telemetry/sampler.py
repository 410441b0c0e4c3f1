"""Samples of host, engine process, engine counters and GPUs on one clock. Its own process, run by `python -m`.

Writes JSON lines [t_s, source, index, metric, value]. Ends when standard input closes.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.probe import EngineCounters
from tokenhour.machine.processes import die_with_parent
from tokenhour.machine.prometheus import read_metrics

Sample = tuple[str, str, str, float]
Stamped = tuple[float, Sample]
Reader = Callable[[], Iterator[Sample]]

_GAUGES = {
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_share",
    "vllm:num_preemptions_total": "preemptions_total",
    "vllm:prompt_tokens_total": "prompt_tokens_total",
    "vllm:generation_tokens_total": "generation_tokens_total",
    "vllm:prefix_cache_queries_total": "prefix_queries_total",
    "vllm:prefix_cache_hits_total": "prefix_hits_total",
}
SLOW_S = 1.0
_SHORTEST_S = 0.03
_RAPL = Path("/sys/class/powercap")


def read_engine(base_url: str, timeout_s: float = 5.0, *, key_env: str = "") -> dict[str, float]:
    """Read an engine's /metrics by our names; several engines are added. Empty when it offers none or does not answer.

    `key_env` names the variable that holds the API key.
    """
    found = read_metrics(base_url, _GAUGES, timeout_s=timeout_s, key=os.environ.get(key_env, ""))
    return {_GAUGES[name]: value for name, value in found.items()}


def counters(base_url: str, *, key_env: str = "") -> EngineCounters:
    """Return the engine's token totals now."""
    found = read_engine(base_url, key_env=key_env)
    return EngineCounters(**{name: found.get(f"{name}_total") for name in EngineCounters.model_fields})


def engine_reader(urls: Sequence[str], *, key_env: str = "") -> Reader:
    """Read the engine's own metrics; those of several replicas are added, but for shares, whose largest counts.

    Nothing where one of them does not answer: a sum without it would be another.
    """

    def read() -> Iterator[Sample]:
        found: dict[str, float] = {}
        answers = [read_engine(url, 1.0, key_env=key_env) for url in urls]
        for answer in answers if all(answers) else ():
            for metric, value in answer.items():
                share = metric.endswith("_share")
                found[metric] = max(found.get(metric, 0.0), value) if share else found.get(metric, 0.0) + value
        for metric, value in found.items():
            yield "engine", "", metric, value

    return read


def host_reader() -> Reader:
    """Read the host: CPU share (0-1 of all cores), memory, what a hypervisor kept (s a core), RAPL energy where readable."""
    import psutil

    psutil.cpu_percent()
    cores = psutil.cpu_count() or 1
    before_s = time.monotonic()
    energy = [f for f in sorted(_RAPL.glob("intel-rapl:?/energy_uj")) if os.access(f, os.R_OK) and _is_package(f)]

    def read() -> Iterator[Sample]:
        nonlocal before_s
        if (now_s := time.monotonic()) - before_s >= _SHORTEST_S:  # of less the kernel's clock ticks say nothing: 0
            before_s = now_s
            yield "host", "", "cpu_share", psutil.cpu_percent() / 100
        yield "host", "", "memory_used_bytes", float(psutil.virtual_memory().used)
        if (steal_s := getattr(psutil.cpu_times(), "steal", None)) is not None:
            yield "host", "", "steal_s_total", float(steal_s) / cores
        for number, file in enumerate(energy):
            yield "host", str(number), "energy_j", int(file.read_text()) / 1e6

    return read


def _is_package(file: Path) -> bool:
    """Tell a CPU's own counter from that of the whole platform (psys), of which it is a part."""
    try:
        return file.with_name("name").read_text().startswith("package")
    except OSError:
        return False


def tree_reader(source: str, pid: int, index: str = "", *, whole: bool = True) -> Reader:
    """Read a process tree (or with `whole` false its root alone): CPU seconds and resident bytes."""
    import psutil

    def read() -> Iterator[Sample]:
        seconds, resident = 0.0, 0
        try:
            root = psutil.Process(pid)
            for process in (root, *(root.children(recursive=True) if whole else ())):
                times = process.cpu_times()
                seconds += times.user + times.system
                resident += process.memory_info().rss
        except psutil.NoSuchProcess:
            return
        yield source, index, "cpu_s_total", seconds
        yield source, index, "rss_bytes", float(resident)

    return read


def wait_reader(source: str, pid: int, index: str = "") -> Reader:
    """Read how long a process's first thread was ready to run and had no CPU; nothing where the kernel does not count it."""
    file = Path(f"/proc/{pid}/schedstat")

    def read() -> Iterator[Sample]:
        try:
            ran, waited, _ = map(int, file.read_text().split())
        except (OSError, ValueError):
            return
        if ran:  # a kernel without these statistics shows zeros
            yield source, index, "run_queue_wait_s_total", waited / 1e9

    return read


def pause_s(began_s: float, period_s: float, started_s: float, now_s: float) -> float:
    """Return how long to wait for the next tick of a grid that began at `began_s`; `started_s`: when the last reading did.

    Ticks that have passed are left out, and so is one that comes within half a period of the last reading: two readings in
    one breath tell nothing of the time between, and a CPU share over no time is 0.
    """
    earliest = max(now_s, started_s + period_s / 2)
    return began_s + (math.floor((earliest - began_s) / period_s) + 1) * period_s - now_s


class Sampler:
    """Reads groups of readers, each at its own period: the first here, the others in threads; none waits for another.

    `take` gets what a reader read, each sample with its time (`time.monotonic`), from one thread at a time.
    """

    def __init__(self, groups: Sequence[tuple[float, Sequence[Reader]]], take: Callable[[list[Stamped]], None]) -> None:
        self._groups = [(period, readers) for period, readers in groups if readers]
        self._take = take
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._failed: list[Exception] = []

    def run(self, wait: Callable[[float], bool]) -> None:
        """Read until `wait`, which is given the seconds to the next reading, says that it is over, or a reader fails."""
        first, *others = self._groups
        threads = [threading.Thread(target=self._aside, args=group, daemon=True) for group in others]
        for thread in threads:
            thread.start()
        try:
            self._loop(*first, lambda pause: wait(pause) or self._over.is_set())
        finally:
            self._over.set()
            with self._lock:  # who reads now does not take it any more
                self._take = lambda _: None
        if self._failed:
            raise self._failed[0]

    def _aside(self, period_s: float, readers: Sequence[Reader]) -> None:
        try:
            self._loop(period_s, readers, self._over.wait)
        except Exception as error:  # noqa: BLE001 (raised again by `run`)
            self._failed.append(error)
            self._over.set()

    def _loop(self, period_s: float, readers: Sequence[Reader], wait: Callable[[float], bool]) -> None:
        began = time.monotonic()
        while True:
            started = time.monotonic()
            for read in readers:
                found = [(time.monotonic(), sample) for sample in read()]
                with self._lock:
                    self._take(found)
            if wait(max(0.0, pause_s(began, period_s, started, time.monotonic()))):
                return


def record(orders: dict[str, Any], sink: TextIO) -> None:
    """Sample until standard input closes: host, GPUs and what the generator waits at `hz`, the others once a second."""
    loaders = [(pid, str(k) if k else "") for k, pid in enumerate(orders["generators"])]
    fast = [host_reader()]
    if not orders.get("joined"):  # the load is made on other machines
        fast += (wait_reader("generator", pid, index) for pid, index in loaders)
    if orders["gpu"]:
        from tokenhour.bench.telemetry.gpu_reader import gpu_reader

        try:
            fast.append(gpu_reader(orders.get("gpus", ())))
        except RunFailedError as error:  # the rest is worth having; that no GPU was read makes the run INVALID
            print(f"no GPU is read: {error}", file=sys.stderr)
    trees = [
        *(tree_reader("process", pid, str(k) if k else "") for k, pid in enumerate(orders["engines"])),
        *(tree_reader("generator", pid, index, whole=False) for pid, index in loaders),
    ]
    engine = [engine_reader(orders["metrics_urls"], key_env=orders.get("key_env", ""))] if orders["metrics_urls"] else []
    zero = orders["zero_ns"] / 1e9

    def take(samples: list[Stamped]) -> None:
        sink.writelines(json.dumps([round(at - zero, 6), *sample]) + "\n" for at, sample in samples)

    Sampler(((1 / orders["hz"], fast), (SLOW_S, trees), (SLOW_S, engine)), take).run(_stdin_closed)


def _stdin_closed(pause: float) -> bool:
    return bool(select.select([sys.stdin], [], [], pause)[0]) and not os.read(0, 64)


def main() -> None:
    """Take the orders from the first argument."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent:
        die_with_parent(int(parent))
    orders = json.loads(sys.argv[1])
    try:
        with Path(orders["file"]).open("a", encoding="utf-8", buffering=1) as sink:
            record(orders, sink)
    except OSError as error:  # such as a full disk, of which the run itself says what to do
        print(f"telemetry ends: {error.strerror}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
