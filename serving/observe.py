"""What is on this machine now: servers and when they were asked last, and what runs have recorded.

Between scans a small history is kept, so that a scan from cron knows for how long something has been idle.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from contracts.store import write_text_atomic
from contracts.telemetry import TELEMETRY_FILE
from serving.activity import read_metrics
from serving.guard import children_of
from serving.state import ServerState, all_states, start_of
from serving.waste import Recorded, Seen

HISTORY_FILE = ".scan.json"
_ENGINE = re.compile(r"vllm\.entrypoints\S*api_server|vllm serve|VLLM::")


@dataclass(slots=True)
class History:
    """Since when (Unix seconds) something has been idle, by a key that a reused pid cannot share."""

    since: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path) -> History:
        """Read it; one that is not there or is damaged begins anew."""
        try:
            data = json.loads(file.read_text())
            return cls(dict(data["since"]), dict(data["requests"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def idle_s(self, key: str, now_s: float, *, idle: bool) -> float:
        """Note whether `key` is idle now; return for how long it has been."""
        self.seen.add(key)
        if not idle:
            self.since.pop(key, None)
            return 0.0
        return now_s - self.since.setdefault(key, now_s)

    def write(self, file: Path) -> None:
        """Keep what was seen in this scan, forget what is gone."""
        kept = {key: value for key, value in self.since.items() if key in self.seen}
        asked = {key: value for key, value in self.requests.items() if key in self.seen}
        write_text_atomic(file, json.dumps({"since": kept, "requests": asked}))


def servers(results: Path, history: History, now_s: float) -> list[Seen]:
    """Return our servers that live, and every other vLLM server of this machine that tells its counters."""
    ours = [_ours(state, now_s) for _, state in all_states(results) if state.alive() and state.state != "stopped"]
    known = {pid for server in ours for pid in server.pids}
    return [*ours, *_foreign(known, history, now_s)]


def _ours(state: ServerState, now_s: float) -> Seen:
    asked = dt.datetime.fromisoformat(state.last_request_utc or state.started_utc).timestamp()
    serving = state.state in {"ready", "degraded"}
    return Seen(
        run=state.run,
        pid=state.supervisor_pid,
        start=state.supervisor_start,
        url=state.base_url,
        checkpoint=state.checkpoint,
        # `serving run` has its own command beside it, which is the one that asks.
        idle_s=max(0.0, now_s - asked) if serving and state.mode == "up" else None,
        replicas=len(state.replicas),
        capacity=state.load.capacity,
        peak_running=state.load.peak_running,
        observed_s=state.load.observed_s,
        pids=frozenset(
            pid for each in state.replicas if each.pid is not None for pid in (each.pid, *_descendants(each.pid))
        ),
    )


def _foreign(known: set[int], history: History, now_s: float) -> Iterator[Seen]:
    for pid, command in processes():
        words = command.split()
        if pid in known or not _ENGINE.search(command) or ("--port" not in words and "vllm serve" not in command):
            continue
        port = _value(words, "--port")
        if not port and "vllm serve" not in command:
            continue
        url = f"http://127.0.0.1:{port or 8000}"
        found = read_metrics(url)
        if not found:
            continue
        key = f"server {pid} {start_of(pid)}"
        done = found.get("vllm:request_success_total", 0.0)
        busy = found.get("vllm:num_requests_running", 0.0) > 0 or history.requests.get(key) != done
        history.requests[key] = done
        yield Seen(
            run=f"pid {pid}",
            pid=pid,
            start=start_of(pid) or 0,
            url=url,
            checkpoint=_value(words, "--model"),
            idle_s=history.idle_s(key, now_s, idle=not busy),
            ours=False,
            pids=frozenset((pid, *_descendants(pid))),
        )


def _value(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1] if flag in words[:-1] else ""


def _descendants(pid: int) -> Iterator[int]:
    for child in children_of(pid):
        yield child
        yield from _descendants(child)


def processes() -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of every process that may be read."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if command:
                yield int(folder.name), command


def recorded(results: Path) -> list[Recorded]:
    """Read the GPU utilization that runs below `results` have recorded; runs without any are left out."""
    found = []
    for file in sorted(results.glob(f"*/{TELEMETRY_FILE}")) if results.is_dir() else []:
        from pyarrow import parquet

        with contextlib.suppress(OSError, ValueError, KeyError):
            rows = parquet.read_table(
                file, filters=[("source", "=", "gpu"), ("metric", "=", "utilization_share")]
            ).to_pydict()
            if values := rows["value"]:
                found.append(
                    Recorded(
                        run=file.parent.name,
                        accelerators=len(set(rows["index"])),
                        mean_share=sum(values) / len(values),
                        peak_share=max(values),
                        seconds=max(rows["t_s"]) - min(rows["t_s"]),
                    )
                )
    return found


def same_process(pid: int, start: int) -> bool:
    """Tell whether `pid` is still the process that was seen, and not ourselves."""
    return pid != os.getpid() and start_of(pid) == start
