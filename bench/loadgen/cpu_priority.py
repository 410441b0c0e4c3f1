"""The load generator before the engine wherever the two share cores; what that took, or why it could not be, is recorded.

Beside a busy engine a generator that waits its turn is late by tenths of a second. A raised nice value counts only inside
its scheduling group (`machine.cpu_groups`), so the processes of a measurement lead sessions of their own, and what decides
between their groups and the engine's is raised with them; else the engine's is lowered for as long as the measurement takes.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tokenhour.bench.target.openai_api import parse_url
from tokenhour.contracts.records.probe import CpuPriority, Decider
from tokenhour.machine.cpu_groups import Contest, autogroup, autogroup_file, contest, hierarchy, share_cores, threads
from tokenhour.machine.hold import set_to

_NICE = -10
_LOWERED = 10  # the same ratio, 9 to 1, from below
_WEIGHT_RATIO = 10
_SLICE_NS = 100_000  # the shortest that the kernel gives
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # Python and older C libraries have no name for it
_TELEMETRY_LATER = 3  # nice values: it must not come before the generator


@contextlib.contextmanager
def generator_first(generators: Sequence[int], telemetry: int, engines: Sequence[int] | None) -> Iterator[CpuPriority]:
    """Put the processes of a measurement before those of the engine until the block ends; yield what was done.

    Each of them leads a session. `engines`: the roots of the engine's process trees on this machine; without one that
    shares a core nothing is done. None: it is on this machine, and its processes may not be seen.
    """
    ours = [(pid, _NICE) for pid in generators] + [(telemetry, _NICE + _TELEMETRY_LATER)]
    with contextlib.ExitStack() as stack:
        if sys.platform != "linux":
            found = CpuPriority(action="neither", why=f"not known how on {sys.platform}")
        elif engines is None:
            refused = _raise_nice(ours) or (_raise_autogroups(ours) if autogroup(telemetry) else "")
            found = CpuPriority(action="neither" if refused else "raised", why=refused)
        else:
            contests = _contests(ours, engines)
            found = _arrange(stack, ours, contests) if contests else CpuPriority(action="not shared")
        if found.action != "not shared":
            _shorten_slices(pid for pid, _ in ours)
        yield found


def _arrange(stack: contextlib.ExitStack, ours: list[tuple[int, int]], contests: dict[int, Contest]) -> CpuPriority:
    refused = _raise_nice(ours)
    decided: set[Decider] = {one.by for one in contests.values()}
    if "cgroup" in decided:
        pairs = sorted({f"{one.groups[0]} and {one.groups[1]}" for one in contests.values() if one.groups})
        refused = _raise_weights(stack, {one.weight_file for one in contests.values() if one.weight_file})
        why = "; ".join(filter(None, (f"cgroups {', '.join(pairs)}", refused)))
        return CpuPriority(decided_by="cgroup", action="neither" if refused else "raised", why=why)
    if "autogroup" in decided:
        refused = _raise_autogroups(ours)
        if not refused:
            return CpuPriority(decided_by="autogroup", action="raised")
        also = _lower_sessions(stack, [pid for pid, one in contests.items() if one.by == "autogroup" and not one.groups])
        why = f"{refused}; {also}" if also else refused
        return CpuPriority(decided_by="autogroup", action="neither" if also else "engine lowered", why=why)
    return CpuPriority(decided_by="nice", action="neither" if refused else "raised", why=refused)


def _contests(ours: list[tuple[int, int]], engines: Sequence[int]) -> dict[int, Contest]:
    """Return what decides against each of the engine's processes that may run on the same cores, the oldest first.

    Where the engine's tree holds this measurement too, its own processes are no rivals.
    """
    mine = {os.getpid(), *(pid for root, _ in ours for pid in tree(root))}
    cgroups, found = hierarchy(), {}
    for pid in (pid for root in engines for pid in tree(root) if pid not in mine):
        with contextlib.suppress(OSError):  # it has ended
            if share_cores(ours[0][0], pid):
                found[pid] = contest(ours[0][0], pid, cgroups)
    return found


def _lower_sessions(stack: contextlib.ExitStack, rivals: list[int]) -> str:
    """Lower the engine's sessions until the block ends; return why that cannot be, or nothing."""
    sessions: dict[str, int] = {}
    for pid in rivals:
        if group := autogroup(pid):
            sessions.setdefault(group[0], pid)  # the oldest: it is there still when the setting goes back
    if not sessions:
        return "the engine is in a cgroup of its own"
    return _hold(stack, {str(autogroup_file(pid)): str(_LOWERED) for pid in sessions.values()})


def _raise_nice(ours: list[tuple[int, int]]) -> str:
    """Raise processes, each to a nice value; return why that is not permitted, or nothing."""
    try:
        for pid, nice in ours:
            for thread in threads(pid):
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.setpriority(os.PRIO_PROCESS, thread, nice)
    except OSError as error:
        return f"a nice value of {_NICE}: {error.strerror}"
    return ""


class _SchedAttr(ctypes.Structure):
    """The kernel's struct sched_attr (sched_setattr(2)), its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def _shorten_slices(pids: Iterable[int]) -> None:
    """Ask for short turns: since Linux 6.12 a process that wakes up with one interrupts another's longer one.

    Anyone may ask. Older kernels, and machines whose number of the call is not known here, go on as before.
    """
    call = _SCHED_SETATTR.get(platform.machine())
    for pid in pids if call else ():
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(pid) != os.SCHED_OTHER:  # somebody chose another
                continue
            nice = os.getpriority(os.PRIO_PROCESS, pid)
            asked = _SchedAttr(size=ctypes.sizeof(_SchedAttr), nice=nice, runtime_ns=_SLICE_NS)
            ctypes.CDLL(None, use_errno=True).syscall(call, pid, ctypes.byref(asked), 0)


def _raise_autogroups(ours: list[tuple[int, int]]) -> str:
    """Raise the groups of sessions that end with their processes, so that nothing has to be set back."""
    try:
        for pid, nice in ours:
            set_to(autogroup_file(pid), str(nice))
    except OSError as error:
        return f"an autogroup of {_NICE}: {error.strerror}"
    return ""


def _raise_weights(stack: contextlib.ExitStack, files: set[Path]) -> str:
    """Raise the CPU weights of cgroups until the block ends; return why that cannot be, or nothing."""
    cgroups = hierarchy()
    most = cgroups.most if cgroups else 0
    try:
        wanted = {str(file): str(min(_WEIGHT_RATIO * int(file.read_text()), most)) for file in files}
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return _hold(stack, wanted)


def _hold(stack: contextlib.ExitStack, settings: dict[str, str]) -> str:
    """Keep settings until the block ends; return why they cannot be made, or nothing."""
    words = [sys.executable, "-m", "tokenhour.machine.hold", json.dumps(settings)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    stack.callback(holder.communicate)
    line = holder.stdout.readline() if holder.stdout else b""
    return str((json.loads(line) if line else {"failed": "the process that holds it ended"}).get("failed", ""))


def tree(root: int) -> list[int]:
    """Return a process and its descendants; nothing where it has ended."""
    import psutil

    try:
        process = psutil.Process(root)
        return [root, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def listeners(base_url: str) -> tuple[int, ...] | None:
    """Return the processes of this machine that serve at an address: none where it is another machine's.

    None: it is this machine's, and whose they are may not be seen.
    """
    import psutil

    where = parse_url(base_url)
    try:
        asked = {str(entry[4][0]) for entry in socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)}
    except OSError:  # nobody knows the name: the load will say so
        return ()
    own = {address.address for found in psutil.net_if_addrs().values() for address in found}
    if not any(name in own or _is_here(ipaddress.ip_address(name)) for name in asked):
        return ()
    try:
        bound = [
            (getattr(c.laddr, "port", 0), c.pid) for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
    except (OSError, psutil.AccessDenied):
        return None
    return tuple(sorted({pid for port, pid in bound if port == where.port and pid is not None})) or None


def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_loopback or address.is_unspecified


def trial() -> CpuPriority:
    """Find out on idle processes, each in a session of its own, what this machine permits."""
    words = [sys.executable, "-S", "-c", "input()"]
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(3):
            process = stack.enter_context(
                subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
            )
            stack.callback(process.kill)
            idle.append(process.pid)
        return stack.enter_context(generator_first(idle[:1], idle[1], idle[2:]))
