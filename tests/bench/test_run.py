"""The instrument against a small deterministic server: real processes, real sockets, real faults."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.run import derive, run
from bench.tables import read_table, request_rows
from bench.telemetry import counters, parse_metrics
from bench.validity import DISTURBANCES
from contracts.experiment import Experiment
from contracts.request import REQUESTS_FILE, RequestRow
from contracts.rundir import RunDir
from contracts.server import Server
from contracts.telemetry import TELEMETRY_FILE, TelemetryRow
from tests import records
from tests.bench.server import running


def experiment(**bench):
    return Experiment.model_validate(
        {
            "name": "toy",
            "model": {"source": "./model"},
            "serving": {"max_num_seqs": 4},
            "bench": {
                "workload": {"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}},
                "slo": {"percentile": 50, "ttft_s": 0.5},
                "search": {"saturation_s": 1.0, "probe_s": 1.0, "warmup_s": 0.2, "max_probes": 2, "max_probe_s": 1.5},
                "timeout_s": 4,
                "inactivity_timeout_s": 1.0,
                **bench,
            },
            "economics": {"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}]},
        }
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Make a folder with a tiny real tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    words = {
        word: k for k, word in enumerate(["[UNK]", "the", "a", "of", "is", "to", "in", "and", "class", "object", "value"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def prepare(results: Path, model: Path, base_url: str, spec: Experiment) -> tuple[RunDir, Server]:
    """Write the records that earlier stages would have left."""
    run_dir = RunDir.of(results, spec, "none").open(spec)
    records.checkpoint(path=str(model)).write(run_dir.path)
    server = records.server(base_url, str(model))
    server.write(run_dir.path)
    return run_dir, server


@pytest.fixture(scope="module")
def measured(tmp_path_factory, model_folder):
    spec = experiment()
    with running(slots=4, ttft_s=0.02, itl_s=0.004) as toy:
        run_dir, server = prepare(tmp_path_factory.mktemp("results"), model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    return run_dir, summary, toy


def test_a_runs_tokens_agree_with_the_servers_counters(measured):
    _, summary, toy = measured
    # On a busy machine the run may be disturbed, and says so; nothing else can be wrong with it.
    assert {r.rule for r in summary.reasons} <= DISTURBANCES
    assert all(p.token_disagreement == 0 for p in summary.load_curve)
    assert sum(p.usage_completion_tokens for p in summary.load_curve) == toy.generation_tokens
    assert all(p.usage_prompt_tokens == 12 * p.usage_completion_tokens / 6 for p in summary.load_curve)


def test_the_peak_is_that_of_the_server(measured):
    """4 slots, 20 ms to the first token and 4 ms a token: 4 requests of 6 tokens every 40 ms are 600 tokens/s at most."""
    _, summary, _ = measured
    assert 0 < summary.load_curve[0].output_tps <= 600
    assert summary.peak.output_tokens_per_hour.value == pytest.approx(3600 * summary.load_curve[0].output_tps)


def test_no_first_token_is_seen_before_the_server_can_have_sent_it(measured):
    _, summary, _ = measured
    for point in summary.load_curve:
        assert point.ttft_from_sent.p50_s is None or point.ttft_from_sent.p50_s >= 0.02
        assert point.lag_p99_s >= 0


def test_the_summary_derives_again_from_the_raw_records(measured):
    run_dir, summary, _ = measured
    assert derive(run_dir) == summary


def test_raw_records_are_kept_and_nothing_else_is_left(measured):
    run_dir, summary, _ = measured
    rows = read_table(run_dir.path / REQUESTS_FILE, RequestRow)
    assert sum(p.requests for p in summary.load_curve) <= len(rows)
    assert all(r.completion_tokens == 6 and r.prompt_tokens == 12 for r in rows)
    sources = {(r.source, r.metric) for r in read_table(run_dir.path / TELEMETRY_FILE, TelemetryRow)}
    assert {
        ("host", "cpu_share"),
        ("engine", "generation_tokens_total"),
        ("generator", "cpu_s_total"),
        ("process", "rss_bytes"),
    } <= sources
    assert not (run_dir.path / "raw").exists()


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("truncate", "truncated"),
        ("reset", "connection"),
        ("malformed", "malformed"),
        ("in_band", "in_band_error"),
        ("500", "http_error"),
        ("429", "http_error"),
        ("stall", "timeout"),
    ],
)
def test_a_broken_stream_is_a_failed_request_and_the_run_is_invalid(tmp_path, model_folder, fault, outcome):
    spec = experiment(search={"saturation_s": 0.6, "probe_s": 0.5, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 0.5})
    with running(slots=8, fault=fault, every=3) as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        summary = run(spec, server, run_dir)
    assert summary.validity == "INVALID"
    assert "error rate" in {r.rule for r in summary.reasons}
    outcomes = {r.outcome for r in read_table(run_dir.path / REQUESTS_FILE, RequestRow)}
    assert outcomes == {"success", outcome}


def test_tokens_that_the_engine_counts_otherwise_invalidate(tmp_path, model_folder, monkeypatch):
    spec = experiment(search={"saturation_s": 0.6, "probe_s": 0.5, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 0.5})
    with running(slots=8) as toy:
        run_dir, server = prepare(tmp_path, model_folder, toy.base_url, spec)
        original = toy._stream

        async def more(writer, body, fault):
            toy.generation_tokens += 1
            await original(writer, body, fault)

        monkeypatch.setattr(toy, "_stream", more)
        summary = run(spec, server, run_dir)
    assert any(r.rule.startswith("token counts disagree") for r in summary.reasons)


def child(run_dir: Path) -> subprocess.Popen:
    script = (
        "import sys; from pathlib import Path; from bench.run import run; from contracts.rundir import RunDir\n"
        "from contracts.experiment import Experiment; from contracts.server import Server\n"
        "p = Path(sys.argv[1]); s = run(Experiment.read(p), Server.read(p), RunDir(p))\n"
        "sys.exit(int(s.validity == 'INVALID'))\n"
    )
    return subprocess.Popen([sys.executable, "-c", script, str(run_dir)], stderr=subprocess.DEVNULL)


def wait_for_rows(run_dir: Path) -> None:
    deadline = time.monotonic() + 20
    while len(request_rows(run_dir / "raw/requests-0.jsonl")) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)


LONG = {"saturation_s": 30, "probe_s": 5, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 5}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killing_the_instrument_leaves_readable_records_and_no_process(tmp_path, model_folder, number):
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = child(run_dir.path)
        wait_for_rows(run_dir.path)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2
        began = time.monotonic()
        process.send_signal(number)
        process.wait(10)
        assert time.monotonic() - began < 5
        _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    if number == signal.SIGKILL:
        assert len(request_rows(run_dir.path / "raw/requests-0.jsonl")) >= 5
        assert not (run_dir.path / "summary.json").exists()
    else:
        assert process.returncode == 1
        said = json.loads((run_dir.path / "summary.json").read_text())
        assert said["validity"] == "INVALID"
        assert len(read_table(run_dir.path / REQUESTS_FILE, RequestRow)) >= 5


def test_a_generator_that_is_killed_makes_the_run_invalid_with_the_reason(tmp_path, model_folder):
    spec = experiment(search=LONG)
    with running(slots=4) as toy:
        run_dir, _ = prepare(tmp_path, model_folder, toy.base_url, spec)
        process = child(run_dir.path)
        wait_for_rows(run_dir.path)
        for member in psutil.Process(process.pid).children():
            if "bench.generator" in member.cmdline():
                member.kill()
        assert process.wait(20) == 1
    said = json.loads((run_dir.path / "summary.json").read_text())
    assert "generator ended" in str(said["reasons"])


def test_an_older_measurement_is_moved_aside_not_overwritten(measured, tmp_path):
    old, summary, _ = measured
    copy = RunDir(tmp_path / old.path.name)
    shutil.copytree(old.path, copy.path)
    spec = experiment(search={"saturation_s": 0.5, "probe_s": 0.5, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 0.5})
    with running(slots=4) as toy:
        server = Server.read(copy.path).model_copy(update={"base_url": toy.base_url})
        run(spec, server, copy)
    assert (copy.path / "superseded/1/summary.json").read_bytes() == summary.to_json()


def test_engine_metrics_of_several_engines_are_added():
    text = '# HELP x\nvllm:prompt_tokens_total{engine="0"} 3\nvllm:prompt_tokens_total{engine="1"} 4\nother 9\n'
    assert parse_metrics(text) == {"prompt_tokens_total": 7.0}


def test_a_server_without_metrics_has_no_counters():
    assert counters("http://127.0.0.1:9").prompt_tokens is None
