"""Which of the kernel's scheduling groups two processes are in, and so what decides whose turn it is. Reads only; Linux.

The kernel weighs processes by their nice value only inside a group. Groups are cgroups with a CPU weight and, among the
processes of the root cgroup, sessions: "autogroups", with a nice value of their own (sched(7), "The autogroup feature").
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tokenhour.contracts.records.probe import Decider

PROC = Path("/proc")
_ABOVE = ".."


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where the cgroups with CPU weights are mounted."""

    mount: Path
    root: PurePosixPath
    """Which cgroup the mount shows as its top."""
    line: str
    """Of /proc/PID/cgroup: the controllers of version 1, empty for version 2."""

    @property
    def weight_name(self) -> str:
        """The file that holds a group's weight."""
        return "cpu.shares" if self.line else "cpu.weight"

    @property
    def most(self) -> int:
        """The largest weight that the kernel takes."""
        return 262_144 if self.line else 10_000

    def of(self, pid: int) -> tuple[str, ...]:
        """Return a process's group as path components below the mount; empty for the top. OSError when it has ended."""
        lines = (PROC / str(pid) / "cgroup").read_text().splitlines()
        path = next((rest for line in lines for _, name, rest in [line.split(":", 2)] if name == self.line), "/")
        parts = PurePosixPath(path).parts[1:]
        top = self.root.parts[1:]
        parts = parts[len(top) :] if parts[: len(top)] == top else parts
        # In version 2 a folder without a weight of its own shares that of the one above it.
        while parts and _ABOVE not in parts and not self.weight_file(parts).exists():
            parts = parts[:-1]
        return parts

    def weight_file(self, parts: tuple[str, ...]) -> Path:
        """Return the file with a group's weight."""
        return self.mount.joinpath(*parts) / self.weight_name

    def is_root(self, parts: tuple[str, ...]) -> bool:
        """Tell whether a group is the machine's own root, and not the top of what a container sees."""
        if parts:
            return False
        return (self.mount / "release_agent").exists() if self.line else not self.weight_file(parts).exists()


def hierarchy() -> Hierarchy | None:
    """Find the cgroups that weigh CPUs; None where there are none."""
    found: dict[str, Hierarchy] = {}
    try:
        lines = (PROC / "self/mountinfo").read_text().splitlines()
        names = [line.split(":", 2)[1] for line in (PROC / "self/cgroup").read_text().splitlines()]
    except OSError:
        return None
    legacy = next((name for name in names if "cpu" in name.split(",")), None)
    for line in lines:
        before, _, after = line.partition(" - ")
        root, mount = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup" and legacy is not None and set(legacy.split(",")) <= set(options.split(",")):
            found.setdefault("1", Hierarchy(Path(mount), PurePosixPath(root), legacy))
        elif kind == "cgroup2" and legacy is None:
            found.setdefault("2", Hierarchy(Path(mount), PurePosixPath(root), ""))
    return found.get("1") or found.get("2")


def autogroup_file(pid: int) -> Path:
    """Return the file with the autogroup of a process's session."""
    return PROC / str(pid) / "autogroup"


def autogroup(pid: int) -> tuple[str, int] | None:
    """Return (name, nice value) of a process's autogroup; None where the kernel forms none, or the process has ended."""
    try:
        if (PROC / "sys/kernel/sched_autogroup_enabled").read_text().strip() != "1":
            return None
        name, _, nice = autogroup_file(pid).read_text().split()
    except (OSError, ValueError):
        return None
    return name, int(nice)


@dataclass(frozen=True, slots=True)
class Contest:
    """What decides between two processes that want the same core."""

    by: Decider
    weight_file: Path | None = None
    """The weight of the group in which the first one stands against the other; of cgroups only."""
    groups: tuple[str, str] | None = None
    """The two cgroups, where they are two."""


def contest(ours: int, theirs: int, found: Hierarchy | None) -> Contest:
    """Tell what decides between the processes `ours` and `theirs`; OSError when one of them has ended."""
    mine, other = ((found.of(pid) if found else ()) for pid in (ours, theirs))
    if mine != other and found is not None:
        common = next((k for k, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))
        if other[:1] == (_ABOVE,):  # another container's: the two meet above what can be seen here
            branch: tuple[str, ...] = ()
        elif common == len(mine):  # the other one's group is a member of ours, weighed against our session or nice value
            by: Decider = "autogroup" if found.is_root(mine) and autogroup(ours) else "nice"
            return Contest(by, groups=_names(mine, other))
        else:
            branch = mine[: common + 1]
        return Contest("cgroup", found.weight_file(branch), _names(mine, other))
    if found is not None and not found.is_root(mine):
        return Contest("nice")
    pair = autogroup(ours), autogroup(theirs)
    return Contest("autogroup" if pair[0] and pair[1] and pair[0][0] != pair[1][0] else "nice")


def _names(mine: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, str]:
    return "/" + "/".join(mine), "/" + "/".join(other)


def threads(pid: int) -> Iterator[int]:
    """Yield a process's threads: a nice value is a thread's own."""
    for task in (PROC / str(pid) / "task").iterdir():
        yield int(task.name)


def share_cores(ours: int, theirs: int) -> bool:
    """Tell whether two processes may run on the same core; OSError when one of them has ended."""
    return bool(os.sched_getaffinity(ours) & os.sched_getaffinity(theirs))


def own_weight() -> tuple[str, bool] | None:
    """Return (this process's cgroup, whether its CPU weight may be written); None in the machine's root group."""
    found = hierarchy()
    mine = found.of(os.getpid()) if found else ()
    if found is None or found.is_root(mine):
        return None
    return "/" + "/".join(mine), os.access(found.weight_file(mine), os.W_OK)
