"""vLLM servers that others started on this machine: found by command line, believed only where they listen themselves.

A command line says little by itself: a wrapper's names the same server again, and a container's server has a port of
another network, where somebody else's server may answer here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenhour.machine.prometheus import read_metrics
from tokenhour.serving.engine.engine_metrics import ANSWERED, RUNNING
from tokenhour.serving.idle_scan.history import History
from tokenhour.serving.idle_scan.rules import Seen
from tokenhour.serving.launch.argv import base_url
from tokenhour.serving.state import start_of

_SERVER = re.compile(r"vllm\.entrypoints\S*api_server\b|\bvllm serve\b")
_OUR_GUARD = "-m tokenhour.serving.engine.guardian "
_SECRET = re.compile(r"(--(?:api[-_]key|hf[-_]token)[= ])\S+")
_DEFAULT_PORT = 8000
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not bound)
UNSEEN = (
    "nothing of it listens at port {port} as far as can be seen from here: it starts, is a container's or another user's"
)
SILENT = "its /metrics at {url} does not answer"


@dataclass(frozen=True, slots=True)
class Command:
    """A process whose command line starts a vLLM server."""

    pid: int
    line: str
    port: int
    model: str
    tree: frozenset[int]
    """It and its descendants."""


def command_of(pid: int, line: str, tree: frozenset[int]) -> Command | None:
    """Read a command line; None where it starts no vLLM server, or is our guardian's, which names the engine's."""
    if _OUR_GUARD in line or not _SERVER.search(line):
        return None
    words = line.split()
    port = value_of(words, "--port") or str(_DEFAULT_PORT)
    after = words[words.index("serve") + 1 : words.index("serve") + 2] if "serve" in words else []
    positional = next((word for word in after if not word.startswith("-")), "")
    return Command(pid, line, int(port) if port.isdigit() else _DEFAULT_PORT, value_of(words, "--model") or positional, tree)


def value_of(words: Sequence[str], flag: str) -> str:
    """Return the value of `--flag value` or `--flag=value`; the last one counts, as the engine's parser has it."""
    found = ""
    for index, word in enumerate(words):
        if word == flag:
            found = words[index + 1] if index + 1 < len(words) else ""
        elif word.startswith(f"{flag}="):
            found = word.removeprefix(f"{flag}=")
    return found


def once_each(found: Sequence[Command]) -> list[Command]:
    """Leave one process a server: no worker forked with its parent's command line, no shell or `uv run` around one."""
    first = [
        one for one in found if not any(one.pid in other.tree and one.line == other.line for other in found if other != one)
    ]
    return [one for one in first if not any(other.pid in one.tree for other in first if other != one)]


def others(known: Collection[int], history: History, now_s: float) -> Iterator[Seen]:
    """Yield every vLLM server of this machine that is not among the pids `known`; one that cannot be judged says why."""
    found = [
        command
        for pid, line in processes()
        if pid not in known and _SERVER.search(line) and (command := command_of(pid, line, tree_of(pid)))
    ]
    if not found:
        return
    sockets = listening()
    for each in once_each(found):
        yield _seen(each, sockets, history, now_s)


def _seen(found: Command, sockets: Mapping[int, Collection[tuple[str, int]]], history: History, now_s: float) -> Seen:
    start = start_of(found.pid) or 0
    key = f"server {found.pid} {start}"
    # What is known of it is kept, even where it is too busy to answer this time.
    history.seen.add(key)
    hosts = [host for pid in sorted(found.tree) for host, port in sockets.get(pid, ()) if port == found.port]
    url = base_url("127.0.0.1" if not hosts or hosts[0] in _ANY_ADDRESS else hosts[0], found.port)
    counters = read_metrics(url, (RUNNING, ANSWERED)) if hosts else {}
    idle_s, unjudged = None, ""
    if counters:
        done = counters.get(ANSWERED, 0.0)
        busy = counters.get(RUNNING, 0.0) > 0 or history.requests.get(key) != done
        history.requests[key] = done
        idle_s = history.idle_s(key, now_s, idle=not busy)
    else:
        unjudged = SILENT.format(url=url) if hosts else UNSEEN.format(port=found.port)
    return Seen(
        run=f"pid {found.pid}",
        pid=found.pid,
        start=start,
        url=url,
        checkpoint=found.model,
        idle_s=idle_s,
        ours=False,
        command=found.line,
        unjudged=unjudged,
        # One that cannot be judged as a server is still judged as a holder of memory.
        pids=frozenset() if unjudged else found.tree,
    )


def listening() -> dict[int, set[tuple[str, int]]]:
    """Map each process to the (address, port) pairs that it listens at in this network; those of other users need root."""
    import psutil

    found: dict[int, set[tuple[str, int]]] = {}
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.pid is not None and each.laddr:
            found.setdefault(each.pid, set()).add((each.laddr.ip, each.laddr.port))
    return found


def tree_of(pid: int) -> frozenset[int]:
    """Return `pid` and every process below it."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return frozenset((pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))))
    return frozenset((pid,))


def processes() -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of every process that may be read; keys and tokens in it are masked."""
    import psutil

    for pid in psutil.pids():
        if line := command_line(pid):
            yield pid, line


def command_line(pid: int) -> str:
    """Return a process's command line, keys and tokens masked; empty when it may not be read or has none."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return _SECRET.sub(r"\1***", " ".join(psutil.Process(pid).cmdline()).strip())
    return ""
