"""The live state of a server: one small file in its run folder, written by its supervisor, read by everybody else.

It is no record: it changes all the time. Light imports only, since `serving status` must answer at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

STATE_FILE = "serving.state.json"
ORDER_FILE = "serving.experiment.json"
"""What the supervisor was told to keep up."""
State = Literal["starting", "ready", "degraded", "asleep", "draining", "stopped", "failed", "killed"]
LIVE = frozenset({"starting", "ready", "degraded", "asleep", "draining"})


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One engine of the server."""

    state: str
    url: str
    pid: int | None = None
    phase: str = ""
    restarts: int = 0
    ready_s: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engines were since the supervisor looks; requests at once over all replicas."""

    observed_s: float = 0.0
    mean_running: float = 0.0
    peak_running: float = 0.0
    peak_waiting: float = 0.0
    capacity: int = 0
    """Replicas x serving.max_num_seqs."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as its supervisor sees it."""

    run: str
    state: State
    supervisor_pid: int
    supervisor_start: int
    """Start time of that process in clock ticks since boot: a pid alone may be reused."""
    base_url: str
    model_id: str
    mode: Literal["run", "up"]
    since_utc: str
    """Of this state."""
    started_utc: str
    checkpoint: str = ""
    api_key_env: str | None = None
    last_request_utc: str | None = None
    idle_policy: str = "none"
    wakes: int = 0
    asleep_s: float = 0.0
    error: str = ""
    replicas: tuple[ReplicaState, ...] = ()
    load: EngineLoad = field(default_factory=EngineLoad)

    def write(self, folder: Path) -> None:
        """Replace the state file at once; a disk that is full leaves the old one."""
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix=f".{STATE_FILE}.", dir=folder)
            try:
                with os.fdopen(handle, "w") as stream:
                    json.dump(asdict(self), stream)
                Path(name).replace(folder / STATE_FILE)
            except OSError:
                Path(name).unlink(missing_ok=True)

    def alive(self) -> bool:
        """Tell whether its supervisor lives."""
        return start_of(self.supervisor_pid) == self.supervisor_start


def start_of(pid: int) -> int | None:
    """Return when a process started (clock ticks since boot); None when there is none, or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def read_state(folder: Path) -> ServerState | None:
    """Return the state in a run folder as it is now: `killed` when its supervisor is gone without a word."""
    try:
        data: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
        data["replicas"] = tuple(ReplicaState(**replica) for replica in data["replicas"])
        data["load"] = EngineLoad(**data["load"])
        found = ServerState(**data)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if found.state in LIVE and not found.alive():
        return replace(found, state="killed")
    return found


def all_states(results: Path) -> Iterator[tuple[Path, ServerState]]:
    """Yield (run folder, state) of every server that ever ran below `results`."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for folder in sorted(results.iterdir()):
            if (state := read_state(folder)) is not None:
                yield folder, state
