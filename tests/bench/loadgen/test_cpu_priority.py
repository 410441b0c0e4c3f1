"""The generator before the engine: with real processes, sessions and cgroups, with and without the permission."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests import ROOT
from tests.bench.server import running
from tokenhour.bench.calibration import reference_server
from tokenhour.bench.calibration.calibrate import open_session
from tokenhour.bench.loadgen import cpu_priority
from tokenhour.bench.loadgen.cpu_priority import _SchedAttr, generator_first, listeners, trial
from tokenhour.bench.measure.probe import Wish, run_probe, telemetry_files, telemetry_since
from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.machine.cpu_groups import autogroup, hierarchy

pytestmark = pytest.mark.system

IDLE = (sys.executable, "-S", "-c", "input()")
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@contextlib.contextmanager
def processes(count: int, words: Sequence[str] = IDLE) -> Iterator[list[int]]:
    """Start processes, each in a session of its own."""
    found = [subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) for _ in range(count)]
    try:
        yield [process.pid for process in found]
    finally:
        for process in found:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def autogroups() -> None:
    """Skip where the kernel does not weigh sessions."""
    here = trial()
    if here.decided_by != "autogroup":
        pytest.skip(f"sessions are no scheduling groups here: {here.decided_by} decides")


def session_nice(pid: int) -> int:
    """Return the nice value of a process's autogroup."""
    found = autogroup(pid)
    assert found is not None
    return found[1]


@pytest.fixture
def idle() -> Iterator[list[int]]:
    """Start three idle processes: a generator, telemetry and an engine."""
    with processes(3) as found:
        yield found


@root
@pytest.mark.usefixtures("autogroups")
def test_sessions_are_raised_with_their_nice_values_and_telemetry_stays_below_the_generator(idle: list[int]) -> None:
    """As root the generator goes first, then telemetry, then the untouched engine."""
    ours, telemetry, engine = idle
    with generator_first([ours], telemetry, [engine]) as found:
        assert found == CpuPriority(action="raised", decided_by="autogroup")
        assert [session_nice(pid) for pid in idle] == [-10, -7, 0]
        assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in idle] == [-10, -7, 0]


def test_short_turns_are_asked_for_without_any_permission(idle: list[int]) -> None:
    """sched_getattr(2) tells them since Linux 6.12."""
    call = {"x86_64": 315, "aarch64": 275}.get(os.uname().machine)
    if call is None:
        pytest.skip(f"the number of sched_getattr is not known for {os.uname().machine}")

    def turn_ns(pid: int) -> int:
        found = _SchedAttr()
        size = ctypes.sizeof(found)
        assert ctypes.CDLL(None).syscall(call, pid, ctypes.byref(found), size, 0) == 0
        return found.runtime_ns

    if not turn_ns(idle[2]):
        pytest.skip("this kernel is older than Linux 6.12")
    with generator_first([idle[0]], idle[1], [idle[2]]):
        assert [turn_ns(pid) for pid in idle[:2]] == [100_000] * 2
        assert turn_ns(idle[2]) > 100_000


def test_an_engine_on_other_cores_is_left_alone(idle: list[int]) -> None:
    """Priorities are not touched where no core is shared with the engine."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    os.sched_setaffinity(idle[0], {cores[0]})
    os.sched_setaffinity(idle[2], {cores[1]})
    before = os.getpriority(os.PRIO_PROCESS, idle[0])
    with generator_first([idle[0]], idle[1], [idle[2]]) as found:
        assert found == CpuPriority(action="not shared")
    with generator_first([idle[0]], idle[1], []) as found:
        assert found.action == "not shared"
    assert os.getpriority(os.PRIO_PROCESS, idle[0]) == before


WITHOUT = """
import ctypes, json, os, sys
# PR_CAPBSET_DROP, CAP_SYS_NICE: gone with the next exec
assert ctypes.CDLL(None, use_errno=True).prctl(24, 23, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""
HELD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
from tokenhour.bench.loadgen.cpu_priority import generator_first
with generator_first([int(sys.argv[1])], int(sys.argv[2]), [int(sys.argv[3])]) as found:
    print(found.model_dump_json(), flush=True)
    input()
"""


@contextlib.contextmanager
def unprivileged(pids: Sequence[int]) -> Iterator[tuple[subprocess.Popen[bytes], CpuPriority]]:
    """Hold the engine's session down from a process that may not raise; yield it with what it said."""
    dropped = [WITHOUT, HELD] if os.geteuid() == 0 else [HELD]
    words = [sys.executable, "-c", *dropped, *map(str, pids)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield process, CpuPriority.model_validate_json(process.stdout.readline())


@pytest.mark.usefixtures("autogroups")
def test_where_raising_is_not_permitted_the_engines_session_is_lowered_and_set_back(idle: list[int]) -> None:
    """An ordinary user still gets the generator first, and the engine gets its priority back."""
    with unprivileged(idle) as (process, found):
        assert (found.action, found.decided_by) == ("engine lowered", "autogroup")
        assert "not permitted" in found.why
        assert [session_nice(pid) for pid in idle] == [0, 0, 10]
        process.communicate(b"\n")
    assert session_nice(idle[2]) == 0


@pytest.mark.usefixtures("autogroups")
def test_it_is_set_back_even_where_the_measurement_is_killed(idle: list[int]) -> None:
    """A killed run does not leave the engine slowed down."""
    with unprivileged(idle) as (process, found):
        assert found.action == "engine lowered"
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while session_nice(idle[2]) != 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a cgroup with a CPU weight."""
    found = hierarchy()
    if found is None or os.geteuid() != 0:
        pytest.skip("no cgroup with a CPU weight can be made here: no hierarchy, or not root")
    folder = found.mount / f"tokenhour-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    if not (folder / found.weight_name).exists():
        folder.rmdir()
        pytest.skip("the cgroups that can be made here have no CPU weight")
    yield folder
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # its processes are still ending
            folder.rmdir()
        time.sleep(0.05)


def test_across_cgroups_the_weight_is_raised_and_set_back(idle: list[int], group: Path) -> None:
    """Between cgroups nice values count for nothing, so the group's weight is multiplied by ten."""
    weight = group / hierarchy().weight_name
    before = int(weight.read_text())
    (group / "cgroup.procs").write_text(str(idle[0]))
    with generator_first([idle[0]], idle[1], [idle[2]]) as found:
        assert (found.action, found.decided_by) == ("raised", "cgroup")
        assert int(weight.read_text()) == 10 * before
    assert int(weight.read_text()) == before
    (group.parent / "cgroup.procs").write_text(str(idle[0]))


def test_a_weight_that_may_not_be_written_is_named(idle: list[int], group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user reads which file would have to be writable."""
    (group / "cgroup.procs").write_text(str(idle[0]))
    monkeypatch.setattr("tokenhour.bench.loadgen.cpu_priority._WEIGHT_RATIO", -10)  # which the kernel refuses
    with generator_first([idle[0]], idle[1], [idle[2]]) as found:
        assert (found.action, found.decided_by) == ("neither", "cgroup")
        assert group.name in found.why
        assert "cpu." in found.why
    (group.parent / "cgroup.procs").write_text(str(idle[0]))


def test_a_server_that_nobody_named_is_found_by_its_port() -> None:
    """The engine's process on this machine is found; elsewhere there is none, and unknown stays unknown."""
    with running() as toy:
        assert os.getpid() in listeners(toy.base_url)
    assert listeners("http://192.0.2.1:8000") == ()
    assert listeners("http://nobody.invalid:8000") == ()
    assert listeners("http://127.0.0.1:1") is None


SPINNING = "import os\nfor _ in os.sched_getaffinity(0):\n  if not os.fork():\n    while True: pass\nos.wait()"


@contextlib.contextmanager
def spinning_engine() -> Iterator[int]:
    """Keep every core busy from a session of its own; yield its first process."""
    process = subprocess.Popen([sys.executable, "-S", "-c", SPINNING], start_new_session=True)
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def nice_alone(generators: Sequence[int], telemetry: int, _engines: Sequence[int] | None) -> Iterator[CpuPriority]:
    """Raise what counted before sessions were looked at."""
    cpu_priority._raise_nice([(pid, -10) for pid in (*generators, telemetry)])
    yield CpuPriority(action="neither")


def waited_s(first: Callable[..., Any]) -> tuple[float, CpuPriority | None]:
    """Return (what a generator waited for a CPU beside a spinning engine, s of each s at 300 requests/s; what was done)."""
    with (
        tempfile.TemporaryDirectory() as folder,
        spinning_engine() as engine,
        mock.patch("tokenhour.bench.loadgen.subprocesses.listeners", return_value=(engine,)),
        mock.patch("tokenhour.bench.loadgen.subprocesses.generator_first", first),
        open_session(Path(folder), 1) as session,
        reference_server.running(0.02, 0.005, core=reference_server.own_core()) as server,
    ):
        workload = session.target.spec.workload
        output = workload.output.model_copy(update={"mean_tokens": 32})
        spec = session.target.spec.model_copy(update={"workload": workload.model_copy(update={"output": output})})
        session.target = replace(session.target, base_url=server.base_url, spec=spec)
        begun = telemetry_files(session)
        point = run_probe(session, Wish("fixed", 4.0, rate_rps=300.0)).point
        window = point.window_start_s, point.window_start_s + point.window_s
        found = telemetry_since(session, begun).rate("generator", "run_queue_wait_s_total", *window)
        assert found is not None
        return found, session.crew.priority


@pytest.mark.usefixtures("autogroups")
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler for the reference server")
def test_beside_a_spinning_engine_in_another_session_the_generator_does_not_stall() -> None:
    """The fault in small: a nice value alone leaves it waiting, in turn, for the engine's session. A ratio in one run."""
    pairs = [(waited_s(nice_alone), waited_s(generator_first)) for _ in range(2)]
    print(pairs)
    assert {after.action for _, (_, after) in pairs} <= {"raised", "engine lowered"}
    assert min(before for (before, _), _ in pairs) > 1.5 * min(after for _, (after, _) in pairs), pairs
