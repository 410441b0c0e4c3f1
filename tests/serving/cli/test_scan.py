"""The scan on this machine: the real pynvml on a stub of the driver, real processes, real signals, an exit code for cron."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests import nvml
from tests.serving.idle_scan.test_gpus import FAST, holders
from tokenhour.serving.cli.scan import scan
from tokenhour.serving.idle_scan.history import HISTORY_FILE, History
from tokenhour.serving.state import EngineLoad, ReplicaState, ServerState, start_of


def run(*words: object) -> Result:
    """Run `serving scan` in this process."""
    return CliRunner().invoke(scan, [str(word) for word in words], catch_exceptions=False)


def policy_file(tmp_path: Path, **fields: Any) -> Path:
    """Write a policy that samples quickly, with these fields."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps({"sample_s": 0.01, "samples": 2, **fields}))
    return path


def test_a_notebook_that_computes_nothing_becomes_waste_with_time_and_is_stopped_only_when_named(
    gpu: Callable[..., None], idler: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Nothing is stopped by default: idleness must last, `--stop` be given and the policy name the pattern."""
    gpu(processes=[(idler.pid, 10 * 2**30)])
    results = tmp_path / "results"
    first = run("--results", results, "--policy", policy_file(tmp_path), "--json")
    found = json.loads(first.output)["findings"]
    assert first.exit_code == 0, "it only looks idle"
    assert [(each["pattern"], each["confirmed"]) for each in found] == [("detached-notebook", False)]
    history = json.loads((results / HISTORY_FILE).read_text())
    history["since"] = {key: value - 3600 for key, value in history["since"].items()}
    (results / HISTORY_FILE).write_text(json.dumps(history))
    second = run("--results", results, "--policy", policy_file(tmp_path))
    assert second.exit_code == 1
    assert "detached-notebook" in second.output
    assert idler.poll() is None, "dry by default"
    other = policy_file(tmp_path, stop=["pinned-idle-weights"])
    assert run("--results", results, "--policy", other, "--stop").exit_code == 1
    assert idler.poll() is None, "its pattern is not named"
    named = policy_file(tmp_path, stop=["detached-notebook"])
    assert run("--results", results, "--policy", named, "--stop").exit_code == 0
    assert idler.wait(10) == -15


def test_memory_that_nobody_visible_holds_is_told_and_never_stopped(gpu: Callable[..., None], tmp_path: Path) -> None:
    """As from inside a container: NVML names processes of the host that have no meaning here."""
    gpu(processes=[(2**22 + 5, 10 * 2**30)], used=10 * 2**30)
    (found,) = holders(FAST, History(), 0.0)
    assert (found.pid, found.memory_bytes) == (None, 10 * 2**30)
    done = run(
        "--results",
        tmp_path / "results",
        "--policy",
        policy_file(tmp_path, stop=["idle-memory"], idle_minutes=1e-9),
        "--stop",
    )
    assert "nobody that can be seen from here" in done.output
    assert "stopped" not in done.output


def test_of_two_gpus_the_one_that_computes_is_no_waste_and_a_lost_one_is_left_out(
    gpu: Callable[..., None], idler: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Each GPU is judged by its own utilization, and one that fails does not hide the others."""
    held = [(idler.pid, 10 * 2**30)]
    gpu({"processes": held, "utilization": 90}, {"processes": held}, {"processes": held, "lost": True})
    found = holders(FAST, History(), 0.0)
    assert [(each.gpu, each.busy_share, each.gpu_name) for each in found] == [
        ("0", 0.9, "NVIDIA H100 80GB HBM3"),
        ("1", 0.0, "NVIDIA H100 80GB HBM3"),
    ]
    done = run("--results", tmp_path, "--policy", policy_file(tmp_path, idle_minutes=1e-9), "--json")
    (waste,) = json.loads(done.output)["findings"]
    assert "H100 80GB HBM3 1:" in waste["what"]


def test_every_gpu_is_listed_with_its_state_and_who_holds_it(
    gpu: Callable[..., None], idler: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """One that is paid for and has nobody at all is no process's fault: only the list shows it."""
    held = [(idler.pid, 10 * 2**30)]
    gpu(
        {"processes": held, "utilization": 90, "used": 10 * 2**30},
        {"processes": held, "used": 10 * 2**30},
        {},
        {"lost": True},
    )
    words = ("--results", tmp_path, "--policy", policy_file(tmp_path))
    listed = json.loads(run(*words, "--json").output)["gpus"]
    assert [each["state"] for each in listed] == ["busy", "idle", "unused", "lost"]
    first, unused = listed[0], listed[2]
    assert (first["gpu"], first["name"], first["uuid"]) == ("0", "NVIDIA H100 80GB HBM3", "GPU-0")
    assert (first["used_bytes"], first["total_bytes"], first["busy_share"]) == (10 * 2**30, 80 * 2**30, 0.9)
    assert [(each["pid"], each["memory_bytes"]) for each in first["holders"]] == held
    assert "ipykernel_launcher" in first["holders"][0]["command"]
    assert (unused["holders"], unused["used_bytes"], unused["busy_share"]) == ([], 0, 0.0)
    said = run(*words).output
    assert "GPU 2  unused for" in said
    assert "nobody uses it" in said
    assert "GPU 3  does not answer" in said


def test_a_gpu_without_utilization_cannot_be_judged_and_says_so(
    gpu: Callable[..., None], idler: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """As with MIG: whoever holds it may be idle or not, and must not vanish from the scan."""
    gpu(processes=[(idler.pid, 10 * 2**30)], used=10 * 2**30, utilization=nvml.NOT_SUPPORTED)
    words = ("--results", tmp_path, "--policy", policy_file(tmp_path, idle_minutes=1e-9))
    done = run(*words, "--json")
    told = json.loads(done.output)
    assert (done.exit_code, told["findings"]) == (0, [])
    (listed,) = told["gpus"]
    assert (listed["state"], listed["busy_share"]) == ("cannot be judged", None)
    assert [each["pid"] for each in listed["holders"]] == [idler.pid]
    said = run(*words).output
    assert "cannot be judged" in said
    assert f"pid {idler.pid}" in said


def state(pid: int, **changes: Any) -> ServerState:
    """Make the state of a server that the process supervises, with changes."""
    fields = {
        "run": "toy-w8a8", "state": "ready", "supervisor_pid": pid, "supervisor_start": start_of(pid),
        "base_url": "http://127.0.0.1:1", "model_id": "toy", "mode": "up", "since_utc": "2026-01-01T00:00:00+00:00",
        "started_utc": "2026-01-01T00:00:00+00:00", "checkpoint": "/c", "replicas": (ReplicaState("ready", "u"),),
    }  # fmt: skip
    return ServerState(**{**fields, **changes})


@pytest.mark.usefixtures("gpu")
def test_our_own_server_without_requests_is_found_and_stopped_when_named(
    idler: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """An idle server of this project is reported, and `--stop` ends it only because its pattern is named."""
    (tmp_path / "results/toy-w8a8").mkdir(parents=True)
    state(idler.pid).write(tmp_path / "results/toy-w8a8")
    policy = policy_file(tmp_path, stop=["pinned-idle-weights"])
    words = ("--results", tmp_path / "results", "--policy", policy)
    dry = run(*words)
    assert dry.exit_code == 1
    assert "pinned-idle-weights" in dry.output
    assert run(*words, "--stop").exit_code == 0
    assert idler.wait(10) == -15


@pytest.mark.parametrize("changes", [{"state": "asleep"}, {"mode": "run"}, {"state": "stopped"}])
@pytest.mark.usefixtures("gpu")
def test_a_server_that_rests_or_is_measured_is_no_waste(
    idler: subprocess.Popen[bytes], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Sleeping, stopped and benchmarked servers are left alone."""
    (tmp_path / "toy").mkdir()
    state(idler.pid, **changes).write(tmp_path / "toy")
    assert run("--results", tmp_path, "--policy", policy_file(tmp_path)).exit_code == 0


@pytest.mark.usefixtures("gpu")
def test_a_fleet_that_is_never_full_is_told(idler: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """A fleet far below its capacity is reported with the replica count that would do."""
    (tmp_path / "toy").mkdir()
    load = EngineLoad(observed_s=7200, mean_running=1.0, peak_running=3.0, capacity=64)
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    replicas = tuple(ReplicaState("ready", f"u{n}") for n in range(4))
    state(idler.pid, load=load, replicas=replicas, last_request_utc=now).write(tmp_path / "toy")
    done = run("--results", tmp_path, "--policy", policy_file(tmp_path))
    assert done.exit_code == 1
    assert "serving.replicas: 1" in done.output


@pytest.mark.parametrize(
    ("words", "content", "said"),
    [
        (("--stop",), None, "names nothing that may be stopped"),
        ((), "idle_minutes: -1", "idle_minutes"),
        ((), "idle_minute: 5", "did you mean idle_minutes"),
        ((), "protect: ['(']", "no regular expression"),
        ((), "stop: [everything]", "stop"),
    ],
)
def test_mistakes_in_a_policy_are_exit_2(tmp_path: Path, words: tuple[str, ...], content: str | None, said: str) -> None:
    """A wrong policy is rejected with its field, before anything could be stopped."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "scan", "--results", str(tmp_path), *words]
    if content:
        (tmp_path / "p.yaml").write_text(content)
        argv += ["--policy", str(tmp_path / "p.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
