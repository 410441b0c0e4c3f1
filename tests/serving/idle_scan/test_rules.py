"""The named patterns, from what was seen to what may be stopped."""

import dataclasses
from typing import Any

import pytest

from tokenhour.contracts.config.idle_scan import ScanPolicy
from tokenhour.serving.idle_scan.rules import Holder, Recorded, Seen, find, may_stop, pattern_of

POLICY = ScanPolicy(idle_minutes=30, stop=("pinned-idle-weights", "detached-notebook"))
HOUR = 3600.0


def holder(
    command: str = "python train.py", busy: float = 0.0, idle_s: float = HOUR, pid: int = 10, gib: float = 10.0
) -> Holder:
    """Make a process that holds GPU memory, idle for an hour unless changed."""
    return Holder(pid, 1, command, "0", "H100", int(gib * 2**30), busy, idle_s)


def server(run: str = "a", idle_s: float | None = HOUR, pid: int = 20, checkpoint: str = "/c/x", **changes: Any) -> Seen:
    """Make a server, without requests for an hour unless changed."""
    return Seen(run, pid, 1, f"http://127.0.0.1:{pid}", checkpoint, idle_s, **changes)


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        ("/usr/bin/python -m ipykernel_launcher -f kernel.json", "detached-notebook"),
        ("/opt/conda/bin/jupyter-lab --no-browser", "detached-notebook"),
        ("wandb agent team/project/abc", "idle-sweep"),
        ("ray::train_fn()", "idle-sweep"),
        ("torchrun --nproc-per-node 8 train.py", "idle-sweep"),
        ("python run_sweep.py --lr 1e-4", "idle-sweep"),
        ("./my-renderer", "idle-memory"),
    ],
)
def test_a_holder_is_named_by_its_command_line(command: str, pattern: str) -> None:
    """The report says whether a notebook, a sweep or something unknown wastes the GPU."""
    assert pattern_of(command) == pattern
    assert [each.pattern for each in find([holder(command)], [], [], POLICY)] == [pattern]


@pytest.mark.parametrize("changes", [{"busy": 0.5}, {"gib": 0.1}, {"busy": None}])
def test_a_holder_that_works_holds_little_or_cannot_be_judged_is_left_alone(changes: dict[str, Any]) -> None:
    """Busy, small or unreadable processes are never reported as waste."""
    assert find([holder(**changes)], [], [], POLICY) == []


def test_what_only_looks_idle_now_is_shown_and_not_counted() -> None:
    """A short pause is shown but not confirmed, and nothing is stopped for it."""
    found = find([holder(idle_s=5.0)], [server(idle_s=60.0)], [], POLICY)
    assert [each.confirmed for each in found] == [False, False]
    assert not any(may_stop(each, POLICY) for each in found)


def test_a_server_without_requests_pins_its_weights() -> None:
    """An idle server is reported with the command that stops it."""
    (found,) = find([], [server()], [], POLICY)
    assert found.pattern == "pinned-idle-weights"
    assert found.confirmed
    assert may_stop(found, POLICY)
    assert "serving down a" in found.remedy


@pytest.mark.parametrize("idle_s", [0.0, None])
def test_a_server_that_is_asked_or_rests_is_no_waste(idle_s: float | None) -> None:
    """Servers in use and servers that already sleep are not reported."""
    assert find([], [server(idle_s=idle_s)], [], POLICY) == []


def test_of_two_servers_of_one_checkpoint_the_one_that_nobody_asks_is_the_clone() -> None:
    """Of two copies only the idle or longer idle one is the forgotten clone; other checkpoints are none."""
    asked, forgotten = server("asked", idle_s=0.0, pid=1), server("forgotten", pid=2)
    assert [(each.pattern, each.run) for each in find([], [asked, forgotten], [], POLICY)] == [
        ("forgotten-clone", "forgotten")
    ]
    both = find([], [server("newer", idle_s=HOUR, pid=1), server("older", idle_s=2 * HOUR, pid=2)], [], POLICY)
    assert {each.run: each.pattern for each in both} == {"older": "forgotten-clone", "newer": "pinned-idle-weights"}
    other = find([], [asked, server("other", pid=3, checkpoint="/c/y")], [], POLICY)
    assert [each.pattern for each in other] == ["pinned-idle-weights"]


def test_a_fleet_that_its_busiest_moment_does_not_fill_is_peak_sized() -> None:
    """Oversized fleets get a suggested replica count, but are never stopped automatically."""
    fleet = server(idle_s=0.0, replicas=4, capacity=64, peak_running=10.0, observed_s=2 * HOUR)
    (found,) = find([], [fleet], [], POLICY)
    assert found.pattern == "peak-sized-fleet"
    assert found.remedy == "serving.replicas: 1"
    assert found.confirmed
    stops_all = ScanPolicy(stop=("peak-sized-fleet",))
    assert not may_stop(found, stops_all), "a fleet is told, never stopped"
    for changes in ({"peak_running": 40.0}, {"replicas": 1}, {"capacity": 0}):
        assert find([], [dataclasses.replace(fleet, **changes)], [], POLICY) == []
    (young,) = find([], [dataclasses.replace(fleet, observed_s=60.0)], [], POLICY)
    assert not young.confirmed


def test_recorded_telemetry_tells_of_a_fleet_at_low_utilization() -> None:
    """Recorded GPU utilization reveals oversized fleets that live counters cannot show."""
    found = find([], [], [Recorded("run", 8, 0.1, 0.3, 2 * HOUR), Recorded("busy", 8, 0.5, 0.9, 2 * HOUR)], POLICY)
    assert [(each.run, each.pattern) for each in found] == [("run", "peak-sized-fleet")]


def test_a_servers_processes_are_not_judged_twice() -> None:
    """An engine's own process is not reported a second time as an unknown holder."""
    found = find([holder(pid=21)], [server(pids=frozenset({21}))], [], POLICY)
    assert [each.pattern for each in found] == ["pinned-idle-weights"]


def test_what_is_protected_is_never_stopped() -> None:
    """`protect` wins over `stop`, for runs and command lines alike, and unlisted patterns stay untouched."""
    shielded = POLICY.model_copy(update={"protect": ("^prod-", "kernel-7")})
    notebook = find([holder("python -m ipykernel_launcher kernel-7")], [], [], shielded)[0]
    assert not may_stop(notebook, shielded)
    assert may_stop(notebook, POLICY)
    assert not may_stop(find([], [server("prod-a")], [], shielded)[0], shielded)
    assert not may_stop(find([holder("torchrun x")], [], [], POLICY)[0], POLICY), "its pattern is not listed"
