"""A server that is gone ends the run soon and with that reason; one that is slow, idle or stumbles does not."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.conftest import keep_certificate
from tests.bench.rows import row
from tests.bench.server import running
from tokenhour.bench.calibration import reference_server
from tokenhour.bench.cli import cli
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, request_rows
from tokenhour.bench.statistics.early_stop import answered, silent
from tokenhour.bench.target.liveness import Pulse, knock
from tokenhour.contracts.errors import exit_code_of
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler here")
GOOD = [row(float(k)) for k in range(30)]


def lost(at: float, outcome: str = "connection") -> RequestRow:
    """Return a request that broke off."""
    return row(at, outcome=outcome)


@pytest.mark.parametrize("outcome", ["connection", "timeout", "truncated"])
def test_a_server_is_doubted_when_all_that_ended_lately_broke_off(outcome: str) -> None:
    """One answer within the time is enough to believe in the server."""
    rows = [*GOOD, lost(35.0, outcome), lost(36.0, outcome)]
    assert silent(rows, 36.5, 5.0)
    assert not silent(rows, 36.5, 10.0)  # an answer at 29 s is among them


def test_twenty_in_a_row_are_doubt_enough_before_the_time_is_over() -> None:
    """At high rates a dead server is noticed within moments."""
    assert silent([*GOOD, *(lost(30 + k / 100) for k in range(20))], 31.0, 60.0)
    assert not silent([*GOOD, *(lost(30 + k / 100) for k in range(19))], 31.0, 60.0)


def test_where_nothing_ended_nothing_is_doubted() -> None:
    """An idle low rate, or answers that merely take long."""
    assert not silent(GOOD, 100.0, 5.0)
    assert not silent([*GOOD, lost(31.0)], 100.0, 5.0)
    assert not silent([*GOOD, row(98.0, outcome="cancelled")], 100.0, 5.0)


@pytest.mark.parametrize("outcome", ["success", "http_error", "in_band_error", "malformed"])
def test_a_reset_now_and_then_and_refusals_are_answers_of_a_living_server(outcome: str) -> None:
    """Errors that the server itself sends prove that it lives."""
    rows = [lost(97.0), row(98.0, outcome=outcome), lost(99.0)]
    assert not silent(rows, 100.0, 5.0)
    assert answered(rows, 97.5)
    assert not answered(rows, 98.9)


@contextlib.contextmanager
def hung_port() -> Iterator[str]:
    """A server that hangs: the kernel takes the connection, nobody reads from it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_knocking_tells_a_dead_and_a_hung_server_from_one_that_says_anything_at_all() -> None:
    """Refused and silent ports are reported; any HTTP answer, even 401, is life."""
    with hung_port() as url:
        assert knock(url, 0.2) == "nothing for 0.2 s"
    assert knock(url, 0.2) == "Connection refused"
    with running() as toy:
        assert knock(toy.base_url, 5.0) == ""
    with running(key="secret") as toy:
        assert knock(toy.base_url, 5.0) == ""


def test_watching_never_waits_for_a_knock_and_a_late_answer_outweighs_it() -> None:
    """The load goes on while a knock is under way, and a real answer settles the doubt."""
    rows = [lost(9.5, "timeout")]
    with hung_port() as url:
        pulse = Pulse(url, 1.0)
        began = time.monotonic()
        assert pulse.lost(rows, 10.0) == ""
        assert time.monotonic() - began < 0.5
        assert pulse.lost([*rows, row(10.5)], 11.0, wait=True) == ""
        assert pulse.lost(rows, 10.0, wait=True) == "nothing for 1 s"


@pytest.mark.parametrize("outcome", ["timeout", "connection"])
def test_a_server_whose_requests_all_fail_but_that_answers_is_not_lost(outcome: str) -> None:
    """An overloaded server keeps being measured and fails by its error rate."""
    with running() as toy:
        pulse = Pulse(toy.base_url, 1.0)
        assert pulse.lost([lost(9.0 + k / 100, outcome) for k in range(50)], 10.0, wait=True) == ""


LOAD = {
    "workload": {"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}},
    "slo": {"percentile": 50, "ttft_s": 0.5},
    "timeout_s": 5,
    "inactivity_timeout_s": 1.0,
}


def measure(tmp_path: Path, url: str, verb: str = "run", **load: Any) -> tuple[int, dict[str, Any], list[RequestRow]]:
    """Measure by the command line; return (exit code, summary, rows)."""
    (tmp_path / "load.yaml").write_text(json.dumps({**LOAD, **load}))
    keep_certificate(tmp_path)
    out = tmp_path / "out"
    words = [verb, "--url", url, "--model", "toy", "--workload", str(tmp_path / "load.yaml"), "--out", str(out)]
    code = exit_code_of(lambda: cli.main(words, standalone_mode=False))
    return code, json.loads((out / "summary.json").read_text()), read_table(out / REQUESTS_FILE, RequestRow)


@contextlib.contextmanager
def stricken(
    tmp_path: Path, blow: signal.Signals, probe: int, after: int = 8
) -> Iterator[tuple[reference_server.Reference, list[float]]]:
    """Run a reference server that gets a signal once `after` requests of a probe have ended; yield (server, [when])."""
    when = []

    def strike(process: subprocess.Popen[bytes]) -> None:
        while len(list(request_rows(raw_files.rows_file(tmp_path / "out" / raw_files.FOLDER, probe, 0)))) < after:
            time.sleep(0.05)
        when.append(time.monotonic())
        process.send_signal(blow)

    with reference_server.running(0.02, 0.01, "--model", "toy") as server:
        threading.Thread(target=strike, args=(server.process,), daemon=True).start()
        try:
            yield server, when
        finally:
            server.process.kill()


@pytest.mark.system
@needs_compiler
@pytest.mark.parametrize(
    ("blow", "said"), [(signal.SIGKILL, "Connection refused"), (signal.SIGSTOP, "nothing for 1 s")], ids=["killed", "hung"]
)
def test_an_open_loop_against_a_server_that_is_gone_ends_soon_and_says_so(
    tmp_path: Path, blow: signal.Signals, said: str
) -> None:
    """A dead or hung server ends the run early, INVALID by that reason, with its earlier rows kept."""
    search = {"probe_s": 60, "max_probe_s": 60, "warmup_s": 0.1}
    with stricken(tmp_path, blow, 0, after=40) as (server, when):
        code, summary, rows = measure(tmp_path, server.base_url, arrivals={"rates_rps": [10, 20]}, search=search)
        spent = time.monotonic() - when[0]
    assert code == 1
    assert summary["reasons"][0]["measured"] == f"the server does not answer any more: {said}"
    assert spent < 45  # of the minute that was planned; most of it is the summary on a busy machine
    ended = max(r.finished_s for r in rows) - max(r.finished_s for r in rows if r.outcome == "success")
    assert ended < 6  # seconds that the load went on
    assert [p["offered_rps"] for p in summary["load_curve"]] == [10]
    assert sum(r.outcome == "success" for r in rows) >= 40


@pytest.mark.system
@needs_compiler
def test_a_lost_server_is_not_waited_for_until_the_next_arrival(tmp_path: Path) -> None:
    """One second of arrivals, then none for a minute; the server hangs, so that it is found lost in that minute."""
    bursts = {"process": "bursts", "on_s": 1, "off_s": 60, "rates_rps": [0.5]}
    search = {"probe_s": 70, "max_probe_s": 70, "warmup_s": 0}
    with stricken(tmp_path, signal.SIGSTOP, 0) as (server, when):
        code, summary, _ = measure(tmp_path, server.base_url, arrivals=bursts, search=search)
        spent = time.monotonic() - when[0]
    assert code == 1
    assert "the server does not answer any more" in str(summary["reasons"][0])
    assert spent < 45


@pytest.mark.system
@needs_compiler
def test_a_search_does_not_go_on_to_other_rates_against_a_server_that_is_gone(tmp_path: Path) -> None:
    """No further probe is spent on a server that has died."""
    search = {"saturation_s": 1, "probe_s": 30, "max_probe_s": 30, "warmup_s": 0.1, "max_probes": 6}
    with stricken(tmp_path, signal.SIGKILL, 1) as (server, when):
        code, summary, rows = measure(tmp_path, server.base_url, "search", search=search, saturation_users=2)
        spent = time.monotonic() - when[0]
    assert code == 1
    assert "the server does not answer any more: Connection refused" in str(summary["reasons"][0])
    # A saturated probe that was disturbed is measured again, and is the one that the server does not survive then.
    assert [p["phase"] for p in summary["load_curve"]] in (["saturation", "search"], ["saturation"])
    assert spent < 45
    assert {r.probe for r in rows} == {0, 1}


@pytest.mark.system
def test_a_slow_server_and_one_that_breaks_connections_are_measured_to_the_end(tmp_path: Path) -> None:
    """Half of the requests break off, and of those that do not many take longer than the inactivity timeout in all."""
    search = {"probe_s": 3, "max_probe_s": 3, "warmup_s": 0.1}
    with running(faults=("reset",), every=2, itl_s=0.3) as toy:
        code, summary, rows = measure(tmp_path, toy.base_url, arrivals={"rates_rps": [2]}, search=search)
    assert code == 1
    assert "the run did not end by itself" not in {r["rule"] for r in summary["reasons"]}
    assert {r.outcome for r in rows} == {"success", "connection"}
    assert max(r.scheduled_s for r in rows) - min(r.scheduled_s for r in rows) > 1.5


@pytest.mark.parametrize(("inactivity_s", "patience_s"), [(0.5, 1.0), (1.5, 1.5), (60.0, 2.0)])
def test_a_knock_waits_no_longer_than_two_seconds(inactivity_s: float, patience_s: float) -> None:
    """Checking whether a server lives follows its inactivity timeout between 1 s and 2 s."""
    assert Pulse("http://127.0.0.1:9", inactivity_s)._patience_s == patience_s
