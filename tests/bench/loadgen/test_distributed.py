"""Several load processes, here and on other machines: every arrival once, their rows merged, a lost one noticed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests import ROOT
from tests.bench.conftest import experiment, keep_certificate, prepare
from tests.bench.plans import plan
from tests.bench.server import running
from tokenhour.bench.calibration import reference_server
from tokenhour.bench.loadgen.distributed import Hand, clock_offset_ns, cpu_sample, unsure_of
from tokenhour.bench.loadgen.subprocesses import free_port
from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table, write_table
from tokenhour.bench.run import measure
from tokenhour.bench.summary.finalize import derive
from tokenhour.bench.target.discovery import of_server
from tokenhour.bench.telemetry.series import Telemetry
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow

pytestmark = pytest.mark.system

CPU = "cpu_s_total"
FIXED = {"arrivals": {"rates_rps": [60]}, "search": {"probe_s": 1.0, "max_probe_s": 1.0, "warmup_s": 0.2}}


def test_the_fastest_exchange_tells_the_clocks_offset() -> None:
    """The exchange with the shortest round trip bounds the offset's error best."""
    exchanges = [(0, 1_000_000, 100_000), (200_000, 1_205_000, 210_000), (300_000, 1_400_000, 500_000)]
    assert clock_offset_ns(exchanges) == (1_000_000, 5_000)


@pytest.mark.parametrize(("error_ns", "runs"), [(0, True), (50_000_000, True), (51_000_000, False)])
def test_a_worker_whose_clock_is_not_known_well_enough_takes_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error_ns: int, runs: bool
) -> None:
    """Above 50 ms of clock error a worker refuses, since its latencies would mean nothing."""
    said = []
    hand = object.__new__(Hand)
    hand.worker = SimpleNamespace(begin=lambda _: (_ for _ in ()).throw(OSError("began")), why_not=str)
    hand.folder = tmp_path
    monkeypatch.setattr(hand, "clock", lambda: (0, error_ns))
    monkeypatch.setattr(hand, "_done", lambda _, failed: said.append(failed))
    hand.run(1, plan().as_json(), {})
    assert said == (["began"] if runs else [unsure_of(error_ns)])
    assert runs or "known to 51 ms only (limit 50 ms)" in said[0]


@pytest.mark.parametrize("ahead_ns", [600_000_000, -600_000_000])
def test_a_worker_puts_the_plan_on_its_own_clock(tmp_path: Path, ahead_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master's clock is so far ahead of ours: its zero and start come that much earlier here."""
    hand = object.__new__(Hand)
    hand.folder = tmp_path
    monkeypatch.setattr(hand, "clock", lambda: (ahead_ns, 7))
    here, error_ns = hand._localise(plan(), {})
    now_here, now_there = 5 * 10**9, 5 * 10**9 + ahead_ns
    assert now_here - here.zero_ns == now_there - 10**9
    assert now_here - here.start_ns == now_there - 3 * 10**9
    assert error_ns == 7


def test_a_worker_of_another_machine_keeps_its_files_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of this machine works in the master's."""
    hand = object.__new__(Hand)
    hand.folder = tmp_path / "own"
    monkeypatch.setattr(hand, "clock", lambda: (0, 0))
    files = {raw_files.CORPUS: b"ids", raw_files.TOKENIZER: b"{}"}
    there, _ = hand._localise(plan(joined=True, tokenizer="/master/tokenizer.json"), files)
    assert (there.raw, there.tokenizer) == (hand.folder, str(hand.folder / raw_files.TOKENIZER))
    assert {file.name: file.read_bytes() for file in hand.folder.iterdir()} == files
    assert hand._localise(plan(), {})[0] == plan()


def rows_of(run_dir: Path) -> list[RequestRow]:
    """Read the requests of a run folder."""
    return read_table(run_dir / REQUESTS_FILE, RequestRow)


def test_two_processes_share_the_schedule_and_their_rows_are_merged(tmp_path: Path, model_folder: Path) -> None:
    """Two processes make exactly the planned load, and their records become one table."""
    spec = experiment(**FIXED)
    with running() as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = measure(of_server(spec, server), run_dir, workers=Workers(2))
    rows = rows_of(run_dir.path)
    assert {r.worker for r in rows} == {0, 1}
    assert len({r.request_id for r in rows}) == len(rows) == toy.served
    assert {r.outcome for r in rows} == {"success"}
    assert summary.load_curve[0].token_disagreement == 0
    assert all(r.sent_s >= r.scheduled_s for r in rows)
    assert not (run_dir.path / raw_files.FOLDER).exists()


def test_a_worker_that_is_killed_makes_the_run_invalid_and_leaves_what_was_recorded(
    tmp_path: Path, model_folder: Path
) -> None:
    """A lost worker means less load than stated, so the run is INVALID but its rows are kept."""
    spec = experiment(arrivals={"process": "closed", "concurrency": [4]}, search={"saturation_s": 60, "warmup_s": 0.1})
    script = (
        "import sys; from pathlib import Path; from tokenhour.bench.run import measure\n"
        "from tokenhour.bench.target.discovery import of_server\n"
        "from tokenhour.bench.loadgen.worker_count import Workers; from tokenhour.machine.run_folder import RunDir\n"
        "from tokenhour.contracts.config.experiment import Experiment\n"
        "from tokenhour.contracts.records.server import Server\n"
        "p = Path(sys.argv[1]); t = of_server(Experiment.read(p), Server.read(p))\n"
        "sys.exit(int(measure(t, RunDir(p), workers=Workers(2)).validity == 'INVALID'))\n"
    )
    with running() as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = subprocess.Popen([sys.executable, "-c", script, str(run_dir.path)], stderr=subprocess.DEVNULL)
        raw = run_dir.path / raw_files.FOLDER
        wait_for(lambda: sum(file.stat().st_size > 0 for file in raw_files.all_rows(raw)) == 2)
        hand = next(p for p in psutil.Process(process.pid).children() if "worker" in p.cmdline())
        hand.kill()
        assert process.wait(30) == 1
    said = json.loads((run_dir.path / "summary.json").read_text())
    assert "a load worker ended" in str(said["reasons"])
    assert {r.worker for r in rows_of(run_dir.path)} == {0, 1}


def wait_for(condition: Callable[[], bool], seconds: int = 60) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def namespaces_work() -> bool:
    """Tell whether network namespaces can be made here."""
    name = f"th-try-{os.getpid()}"
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=False)
    return made


@pytest.fixture
def two_hosts() -> Iterator[list[tuple[str, ...]]]:
    """Two hosts with a cable between them: network namespaces 10.77.0.1 and 10.77.0.2."""
    names = [f"th-{k}-{os.getpid()}" for k in (1, 2)]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    cables = [f"th{k}v{os.getpid() % 100000}" for k in (1, 2)]
    try:
        subprocess.run(["ip", "link", "add", cables[0], "type", "veth", "peer", "name", cables[1]], check=True)
        for k, (name, cable) in enumerate(zip(names, cables, strict=True), 1):
            subprocess.run(["ip", "link", "set", cable, "netns", name], check=True)
            inside = ["ip", "-n", name]
            subprocess.run([*inside, "addr", "add", f"10.77.0.{k}/24", "dev", cable], check=True)
            subprocess.run([*inside, "link", "set", cable, "up"], check=True)
            subprocess.run([*inside, "link", "set", "lo", "up"], check=True)
        yield [("ip", "netns", "exec", name) for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


LOAD = """\
workload:
  prompt: {mean_tokens: 20}
  output: {mean_tokens: 6}
slo: {percentile: 50, ttft_s: 1.0}
search: {warmup_s: 0.2, probe_s: 1.0, max_probe_s: 1.0}
arrivals: {rates_rps: [60]}
timeout_s: 5
inactivity_timeout_s: 2
"""


def test_a_worker_that_joined_is_saturated_by_its_own_word() -> None:
    """Two workers whose CPU grows by 0.3 and 0.95 s a second beside a master that idles."""
    said = [{"worker": k, "t_s": t, "cpu_s": 5 + share * t} for k, share in ((0, 0.3), (1, 0.95)) for t in range(0, 20, 2)]
    master = [TelemetryRow(float(t), "generator", "", "cpu_s_total", 0.01 * t) for t in range(0, 20, 2)]
    found = Telemetry.of([*master, *(TelemetryRow(*cpu_sample(one)) for one in said)])
    assert found.rate("generator", "cpu_s_total", 2.0, 12.0) == pytest.approx(0.95)


def join(port: int, out: Path, stack: contextlib.ExitStack) -> subprocess.Popen[str]:
    """Start a worker as on another machine, which ends with the stack."""
    words = [sys.executable, "-m", "tokenhour.bench", "worker", f"127.0.0.1:{port}", "--out", str(out)]
    hand = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    stack.callback(hand.communicate)
    stack.callback(hand.terminate)
    return hand


def test_workers_that_join_say_what_cpu_they_take(tmp_path: Path, model_folder: Path) -> None:
    """Saturation of a remote worker is noticed; one that reports no CPU use is pointed out."""
    spec = experiment(**FIXED)
    port = free_port()
    with running() as toy, contextlib.ExitStack() as stack:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        for k in range(2):
            join(port, tmp_path / f"w{k}", stack)
        summary = measure(of_server(spec, server), run_dir, workers=Workers(2, "127.0.0.1", port), results=tmp_path)
    # A calibration here would say nothing of the machines that make the load.
    assert summary.uncertified == "generator uncertified: the load workers of other machines are not calibrated from here"
    samples = read_table(run_dir.path / TELEMETRY_FILE, TelemetryRow)
    assert {r.index for r in samples if r.source == "generator"} == {"", "worker 0", "worker 1"}
    (point,) = summary.load_curve
    window = point.window_start_s, point.window_start_s + point.window_s
    shares = [s.rate(*window) for key, s in Telemetry.of(samples).series.items() if key[0] == "generator" and key[2] == CPU]
    assert len(shares) == 3
    assert point.generator_cpu_share == max(share or 0.0 for share in shares) > 0
    assert not any("was not measured: their" in said for said in summary.warnings)
    # A worker of an earlier version says nothing: that is said instead.
    table = [r for r in samples if r.index != "worker 1"]
    write_table(run_dir.path / TELEMETRY_FILE, table, TelemetryRow)
    assert any("CPU use of 1 of 2 load workers was not measured" in said for said in derive(run_dir).warnings)


def test_a_worker_too_many_is_sent_away_and_the_others_share_the_load(tmp_path: Path, model_folder: Path) -> None:
    """Two users for two workers: a third would take one of them, and a worker with half of the schedule would have none."""
    spec = experiment(arrivals={"process": "closed", "concurrency": [2]}, search={"saturation_s": 1.5, "warmup_s": 0.2})
    port = free_port()
    with running() as toy, contextlib.ExitStack() as stack:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        hands = [join(port, tmp_path / f"w{k}", stack) for k in range(3)]
        summary = measure(of_server(spec, server), run_dir, workers=Workers(2, "127.0.0.1", port))
        said = [hand.communicate(timeout=20)[1] for hand in hands]
    assert "did not come to an end" not in str(summary.reasons)
    assert {r.worker for r in rows_of(run_dir.path)} == {0, 1}
    assert [hand.returncode for hand in hands] == [0, 0, 0]
    assert sum("it had its workers already" in text for text in said) == 1
    assert not any("Traceback" in text for text in said)


def test_a_master_at_an_address_of_another_machine_says_so(tmp_path: Path, model_folder: Path) -> None:
    """Binding to a foreign address ends the run with that address in the reason."""
    spec = experiment(**FIXED)
    with running() as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = measure(of_server(spec, server), run_dir, workers=Workers(2, "203.0.113.1", free_port()))
    assert "the master of the load workers, at 203.0.113.1" in str(summary.reasons[0])


DEAD = """\
import sys
import tokenhour.bench.loadgen.main
import locust.runners as runners
runners.CONNECT_TIMEOUT, runners.CONNECT_RETRY_COUNT = 0.05, 2
sys.argv = ["generator", "worker", "127.0.0.1", sys.argv[1], sys.argv[2]]
tokenhour.bench.loadgen.main.main()
"""


def test_a_worker_whose_master_never_answers_says_so(tmp_path: Path) -> None:
    """A worker gives up with a message instead of waiting for ever."""
    words = [sys.executable, "-c", DEAD, str(free_port()), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no master answers there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_row_longer_than_a_piece_travels_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows reach the master whole, whatever their length; a torn last row is left out."""
    monkeypatch.setattr("tokenhour.bench.loadgen.distributed._PIECE_BYTES", 16)
    sent = []
    hand = Hand.__new__(Hand)
    hand.runner = SimpleNamespace(send_message=lambda _, data: sent.append(zlib.decompress(data["data"])))
    whole = b"short\n" + b"x" * 100 + b"\nshort\n"
    raw_files.rows_file(tmp_path, 0, 0).write_bytes(whole + b"torn" * 10)
    assert hand._send_rows(plan(raw=tmp_path), 0) == len(whole)
    assert b"".join(sent) == whole


@pytest.mark.skipif(not namespaces_work(), reason="network namespaces cannot be made here (root and iproute2 are needed)")
@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler for the reference server")
def test_two_machines_make_one_load(tmp_path: Path, two_hosts: list[tuple[str, ...]]) -> None:
    """Workers on two hosts share one schedule against one server, and each keeps its own records."""
    one = two_hosts[0]
    (tmp_path / "load.yaml").write_text(LOAD)
    keep_certificate(tmp_path, workers=2)
    python = [sys.executable, "-m", "tokenhour.bench"]
    joins = [
        [*host, *python, "worker", "10.77.0.1:5557", "--out", str(tmp_path / f"w{k}")] for k, host in enumerate(two_hosts)
    ]
    with reference_server.running(0.02, 0.002, host="10.77.0.1", prefix=one) as server:
        words = [*one, *python, "run", "--url", server.base_url, "--model", "reference", "--out", str(tmp_path / "out")]
        words += ["--workload", str(tmp_path / "load.yaml"), "--workers", "2@10.77.0.1:5557"]
        master = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        hands = [subprocess.Popen(join, cwd=ROOT, stderr=subprocess.DEVNULL) for join in joins]
        said, _ = master.communicate(timeout=100)
        for hand in hands:
            hand.wait(20)
        truth = server.truth()
    assert master.returncode in {0, 1}, said
    rows = rows_of(tmp_path / "out")
    assert {r.worker for r in rows} == {0, 1}, said
    assert {r.outcome for r in rows} == {"success"}
    assert {r.request_id for r in rows} <= set(truth)
    assert "waiting for 2 load workers" in said
    kept = [raw_files.all_rows(tmp_path / f"w{k}", 0) for k in (0, 1)]
    assert all(len(files) == 1 for files in kept)  # each worker wrote its own records
