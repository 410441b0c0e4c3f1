"""What of ours is on this machine now: servers and when they were asked last, and what their runs have recorded."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path

from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.serving.idle_scan.foreign_servers import command_line, others, tree_of
from tokenhour.serving.idle_scan.history import History
from tokenhour.serving.idle_scan.rules import Recorded, Seen
from tokenhour.serving.state import ServerState, all_states, start_of


def servers(results: Path, history: History, now_s: float) -> list[Seen]:
    """Return our servers that live, and every other vLLM server of this machine."""
    live = _live(results)
    # Guardians and routers are no servers of their own, nor is anything that `serving run` has beside its server.
    known = {pid for _, state in live for pid in tree_of(state.supervisor_pid)}
    ours = [_ours(state, now_s) for _, state in live]
    known |= {pid for server in ours for pid in server.pids}
    return [*ours, *others(known, history, now_s)]


def _live(results: Path) -> list[tuple[Path, ServerState]]:
    return [(folder, state) for folder, state in all_states(results) if state.alive() and state.state != "stopped"]


def _ours(state: ServerState, now_s: float) -> Seen:
    asked = dt.datetime.fromisoformat(state.last_request_utc or state.started_utc).timestamp()
    serving = state.state in {"ready", "degraded"}
    roots = [each.pid for each in state.replicas if each.pid is not None]
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
        command=" | ".join(line for pid in (state.supervisor_pid, *roots) if (line := command_line(pid))),
        pids=frozenset(pid for root in roots for pid in tree_of(root)),
    )


def recorded(results: Path) -> list[Recorded]:
    """Read the GPU utilization that our live servers' runs have recorded since they started.

    What a server that is gone had recorded is no waste of now: a scan from cron would fail for it forever.
    """
    found = []
    for folder, state in _live(results):
        file = folder / TELEMETRY_FILE
        began = dt.datetime.fromisoformat(state.started_utc).timestamp()
        if not file.is_file() or file.stat().st_mtime < began:
            continue
        from pyarrow import parquet

        with contextlib.suppress(OSError, ValueError, KeyError):
            rows = parquet.read_table(
                file, filters=[("source", "=", "gpu"), ("metric", "=", "utilization_share")]
            ).to_pydict()
            if values := rows["value"]:
                found.append(
                    Recorded(
                        run=folder.name,
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
