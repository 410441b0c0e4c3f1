"""Samples of host, engine process, engine counters and GPUs on one clock. Its own process: `python -m bench.telemetry`.

Writes JSON lines [t_s, source, index, metric, value]. Ends when standard input closes.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from contracts.probe import EngineCounters
from contracts.process import die_with_parent

Sample = tuple[str, str, str, float]
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
_RAPL = Path("/sys/class/powercap")


def parse_metrics(text: str) -> dict[str, float]:
    """Read the engine's Prometheus text; counts of several engines are added."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.startswith("vllm:"):
            continue
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in _GAUGES:
            found[_GAUGES[name]] = found.get(_GAUGES[name], 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def read_metrics(base_url: str, timeout_s: float = 5.0) -> dict[str, float]:
    """Fetch and read /metrics; empty when the engine offers none or does not answer."""
    try:
        with urllib.request.urlopen(f"{base_url}/metrics", timeout=timeout_s) as reply:
            return parse_metrics(reply.read().decode())
    except (OSError, ValueError, http.client.HTTPException):  # the last: the engine ended in the middle of its answer
        return {}


def counters(base_url: str) -> EngineCounters:
    """Return the engine's token totals now."""
    found = read_metrics(base_url)
    return EngineCounters(
        prompt_tokens=found.get("prompt_tokens_total"),
        generation_tokens=found.get("generation_tokens_total"),
        prefix_queries=found.get("prefix_queries_total"),
        prefix_hits=found.get("prefix_hits_total"),
    )


def engine_reader(urls: Sequence[str]) -> Reader:
    """Read the engine's own metrics; those of several replicas are added, but for shares, whose largest counts."""

    def read() -> Iterator[Sample]:
        found: dict[str, float] = {}
        for url in urls:
            for metric, value in read_metrics(url, 1.0).items():
                share = metric.endswith("_share")
                found[metric] = max(found.get(metric, 0.0), value) if share else found.get(metric, 0.0) + value
        for metric, value in found.items():
            yield "engine", "", metric, value

    return read


def host_reader() -> Reader:
    """Read the host: CPU share (0-1 of all cores), memory, RAPL energy where it is readable."""
    import psutil

    psutil.cpu_percent()
    energy = [f for f in sorted(_RAPL.glob("intel-rapl:?/energy_uj")) if os.access(f, os.R_OK)]

    def read() -> Iterator[Sample]:
        yield "host", "", "cpu_share", psutil.cpu_percent() / 100
        yield "host", "", "memory_used_bytes", float(psutil.virtual_memory().used)
        for number, file in enumerate(energy):
            yield "host", str(number), "energy_j", int(file.read_text()) / 1e6

    return read


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


def record(orders: dict[str, Any], sink: TextIO) -> None:
    """Sample until standard input closes: fast readers at `hz`, slow ones (engine metrics, process trees) once a second."""
    fast = [host_reader()]
    if orders["gpu"]:
        from bench.gpus import gpu_reader

        fast.append(gpu_reader(orders.get("gpus", ())))
    slow = [
        engine_reader(orders["metrics_urls"]),
        *(tree_reader("process", pid, str(k) if k else "") for k, pid in enumerate(orders["engines"])),
        *(tree_reader("generator", pid, str(k) if k else "", whole=False) for k, pid in enumerate(orders["generators"])),
    ]
    zero, period = orders["zero_ns"] / 1e9, 1 / orders["hz"]
    began, tick, next_slow = time.monotonic(), 0, 0.0
    while True:
        readers = fast
        if time.monotonic() >= next_slow:
            readers, next_slow = [*fast, *slow], time.monotonic() + 1.0
        for read in readers:
            sink.writelines(json.dumps([round(time.monotonic() - zero, 6), *sample]) + "\n" for sample in read())
        tick += 1
        pause = max(0.0, began + tick * period - time.monotonic())
        if select.select([sys.stdin], [], [], pause)[0] and not os.read(0, 64):
            return


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
