"""Which groups the kernel weighs processes in, read from a /proc and cgroup folders as several machines show them."""

from pathlib import Path, PurePosixPath

import pytest

from tokenhour.machine import cpu_groups
from tokenhour.machine.cpu_groups import Contest, Hierarchy, autogroup, contest, hierarchy

V2 = "30 25 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "31 25 0:27 {root} {mount} rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"


class Machine:
    """A made-up /proc and cgroup mount."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proc, self.mount = folder / "proc", folder / "cgroup"
        (self.proc / "sys/kernel").mkdir(parents=True)
        (self.proc / "sys/kernel/sched_autogroup_enabled").write_text("1\n")
        self.mount.mkdir()
        monkeypatch.setattr(cpu_groups, "PROC", self.proc)

    def mounted(self, line: str, root: str = "/", own: str = "0::/") -> Hierarchy | None:
        """Mount a cgroup hierarchy and return what is found of it."""
        (self.proc / "self").mkdir()
        (self.proc / "self/mountinfo").write_text(line.format(root=root, mount=self.mount))
        (self.proc / "self/cgroup").write_text(own + "\n")
        return hierarchy()

    def process(self, pid: int, group: str, session: str = "/autogroup-1", nice: int = 0) -> None:
        """Add a process with its cgroup and session."""
        (self.proc / str(pid)).mkdir()
        (self.proc / str(pid) / "cgroup").write_text(group + "\n")
        (self.proc / str(pid) / "autogroup").write_text(f"{session} nice {nice}\n")

    def weighs(self, path: str, name: str = "cpu.weight") -> Path:
        """Give a cgroup a CPU weight and return the weight's file."""
        folder = self.mount / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("100\n")
        return folder / name


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose /proc and cgroups are empty."""
    return Machine(tmp_path, monkeypatch)


def test_in_the_root_group_sessions_decide_and_within_one_the_nice_value(machine: Machine) -> None:
    """With autogroups a nice value acts only within one session; raising it elsewhere would have no effect."""
    found = machine.mounted(V2)
    machine.process(1, "0::/", "/autogroup-1")
    machine.process(2, "0::/", "/autogroup-2", nice=5)
    machine.process(3, "0::/", "/autogroup-1")
    assert contest(1, 2, found) == Contest("autogroup")
    assert contest(1, 3, found) == Contest("nice")
    assert autogroup(2) == ("/autogroup-2", 5)


def test_where_the_kernel_forms_no_autogroups_the_nice_value_decides(machine: Machine) -> None:
    """With autogroups switched off, sessions do not matter."""
    found = machine.mounted(V2)
    (machine.proc / "sys/kernel/sched_autogroup_enabled").write_text("0\n")
    machine.process(1, "0::/", "/autogroup-1")
    machine.process(2, "0::/", "/autogroup-2")
    assert contest(1, 2, found) == Contest("nice")


def test_a_cgroup_without_a_weight_shares_that_of_the_one_above_it(machine: Machine) -> None:
    """As in sessions of systemd: the CPU controller ends above them, so that they are in the root group to the scheduler."""
    found = machine.mounted(V2)
    (machine.mount / "user.slice/session-1.scope").mkdir(parents=True)
    machine.process(1, "0::/user.slice/session-1.scope", "/autogroup-1")
    machine.process(2, "0::/", "/autogroup-2")
    assert contest(1, 2, found) == Contest("autogroup")


def test_two_services_are_weighed_below_the_slice_that_they_share(machine: Machine) -> None:
    """The weight to raise is that of our group just below the common one."""
    found = machine.mounted(V2)
    ours = machine.weighs("system.slice/bench.service")
    for path in ("system.slice", "system.slice/engine.service"):
        machine.weighs(path)
    machine.process(1, "0::/system.slice/bench.service")
    machine.process(2, "0::/system.slice/engine.service")
    groups = ("/system.slice/bench.service", "/system.slice/engine.service")
    assert contest(1, 2, found) == Contest("cgroup", ours, groups)
    assert contest(1, 1, found) == Contest("nice")


def test_an_engine_in_a_group_below_the_generators_is_weighed_against_its_nice_value(machine: Machine) -> None:
    """A parent's own processes compete with a child group by nice value, and the child by its weight."""
    found = machine.mounted(V2)
    machine.weighs("bench")
    machine.weighs("bench/engine")
    machine.process(1, "0::/bench")
    machine.process(2, "0::/bench/engine")
    assert contest(1, 2, found) == Contest("nice", groups=("/bench", "/bench/engine"))
    assert contest(2, 1, found).weight_file == machine.mount / "bench/engine/cpu.weight"


def test_from_the_root_group_a_session_is_weighed_against_a_service(machine: Machine) -> None:
    """And no session of the engine's, which is in a group of its own."""
    found = machine.mounted(V2)
    machine.weighs("engine.service")
    machine.process(1, "0::/", "/autogroup-1")
    machine.process(2, "0::/engine.service", "/autogroup-2")
    assert contest(1, 2, found) == Contest("autogroup", groups=("/", "/engine.service"))
    assert contest(2, 1, found).by == "cgroup"


def test_in_a_container_sessions_do_not_count(machine: Machine) -> None:
    """A cgroup namespace shows the container's own group as the top; unlike the machine's root it has a weight."""
    found = machine.mounted(V2)
    top = machine.weighs(".")
    machine.process(1, "0::/", "/autogroup-1")
    machine.process(2, "0::/", "/autogroup-2")
    machine.process(3, "0::/../other", "/autogroup-3")
    assert contest(1, 2, found) == Contest("nice")
    assert contest(1, 3, found).weight_file == top


def test_version_1_without_a_namespace_names_the_containers_own_group_as_its_root(machine: Machine) -> None:
    """Cgroup v1 paths are read from the mount's root, so that containers are understood there as well."""
    found = machine.mounted(V1, root="/docker/abc", own="4:cpu,cpuacct:/docker/abc")
    assert found == Hierarchy(machine.mount, PurePosixPath("/docker/abc"), "cpu,cpuacct")
    machine.weighs(".", "cpu.shares")
    machine.process(1, "4:cpu,cpuacct:/docker/abc", "/autogroup-1")
    machine.process(2, "4:cpu,cpuacct:/docker/abc", "/autogroup-2")
    assert contest(1, 2, found) == Contest("nice")


def test_the_machines_root_of_version_1_is_known_by_its_release_agent(machine: Machine) -> None:
    """Only the real root lets autogroups decide, although both have a cpu.shares file."""
    found = machine.mounted(V1, own="4:cpu,cpuacct:/")
    machine.weighs(".", "cpu.shares")
    (machine.mount / "release_agent").write_text("")
    machine.process(1, "4:cpu,cpuacct:/", "/autogroup-1")
    machine.process(2, "4:cpu,cpuacct:/", "/autogroup-2")
    assert contest(1, 2, found) == Contest("autogroup")


def test_a_machine_without_cgroups_has_sessions_alone(machine: Machine) -> None:
    """Without any hierarchy the sessions decide, and an unknown process has none."""
    machine.process(1, "", "/autogroup-1")
    machine.process(2, "", "/autogroup-2")
    assert hierarchy() is None
    assert contest(1, 2, None) == Contest("autogroup")
    assert autogroup(3) is None


def test_a_process_that_has_ended_is_an_os_error(machine: Machine) -> None:
    """Callers can tell that the engine ended from any other answer."""
    found = machine.mounted(V2)
    machine.process(1, "0::/")
    with pytest.raises(OSError, match="No such file"):
        contest(1, 2, found)
