"""`bench run --url` against servers that know more or less than vLLM; bad input is refused before any load is sent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.tables import read_table
from contracts.endpoint import Endpoint
from contracts.request import REQUESTS_FILE, RequestRow
from contracts.run import Summary
from tests.bench.conftest import keep_certificate, make_model
from tests.bench.server import running

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
LOAD = """\
workload:
  prompt: {mean_tokens: 20}
  output: {mean_tokens: 6}
slo: {percentile: 50, ttft_s: 1.0}
search: {warmup_s: 0.1, probe_s: 0.8, max_probe_s: 0.8, saturation_s: 0.8}
arrivals: {rates_rps: [60]}
timeout_s: 4
inactivity_timeout_s: 1
"""


def bench(folder, url, load=LOAD, model="toy", env=None, verb="run"):
    (folder / "load.yaml").write_text(load)
    words = [sys.executable, "-m", "bench", verb, "--url", url, "--model", model]
    words += ["--workload", str(folder / "load.yaml"), "--out", str(folder / "out")]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, timeout=100, check=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Measure a server that speaks the chat API alone, with a key, and tells tokens only at the end."""
    folder = tmp_path_factory.mktemp("plain")
    model = make_model(folder / "model")
    load = LOAD + f"tokenizer: {model}/tokenizer.json\n"
    environment = {**os.environ, "OPENAI_API_KEY": "secret-key"}
    with running(plain=True, key="secret-key") as toy:
        keep_certificate(folder)
        done = bench(folder, toy.base_url + "/v1", load, env=environment)
    return folder / "out", done


def test_a_server_that_knows_less_is_measured_and_what_is_inexact_is_said(plain):
    folder, done = plain
    found = Endpoint.read(folder)
    assert (found.api, found.token_ids, found.continuous_usage, found.exact_output) == ("chat", False, False, False)
    assert found.engine_counters is False
    assert found.template_tokens == 5
    said = " ".join(found.degraded)
    assert all(word in said for word in ("only at the end", "ignore_eos", "cross-checked", "whole endpoint"))
    assert set(found.degraded) <= set(Summary.read(folder).warnings)
    assert done.returncode in {0, 1}, done.stderr


def test_prompts_are_exact_for_its_tokenizer_template_included(plain):
    folder, _ = plain
    rows = [r for r in read_table(folder / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    assert rows
    assert {r.prompt_tokens for r in rows} == {20}


def test_chunks_carry_the_text_when_tokens_are_told_at_the_end(plain):
    folder, _ = plain
    rows = [r for r in read_table(folder / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    assert all(sum(r.chunk_tokens) == r.completion_tokens == 6 for r in rows)
    assert all(r.chunks == 6 and not r.tokens_spread for r in rows)


def test_the_key_is_in_no_record(plain):
    folder, done = plain
    assert "secret-key" not in done.stdout + done.stderr
    assert not [f for f in folder.rglob("*") if f.is_file() and b"secret-key" in f.read_bytes()]


def test_the_summary_derives_again_without_an_experiment(plain):
    folder, _ = plain
    words = [sys.executable, "-m", "bench", "summarize", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert "the same summary as before" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("prompt: {mean_tokens: 20}", "prompt: {distribution: zipf, mean_tokens: 20}"),
            ["load.yaml", "distribution", "zipf"],
        ),
        (("percentile: 50, ", "percentile: , "), ["slo.percentile"]),
        (("percentile: 50, ttft_s: 1.0", "percentile: 50"), ["slo", "no bound"]),
        (("rates_rps: [60]", "rates_rps: [-1]"), ["arrivals.rates_rps", "-1"]),
        (("timeout_s: 4", "tokenizer: nowhere.json"), ["nowhere.json", "no such file"]),
    ],
)
def test_a_bad_load_file_is_refused_by_field_and_value(tmp_path, change, said):
    with running() as toy:
        done = bench(tmp_path, toy.base_url, LOAD.replace(*change))
        assert toy.served == 0
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(word in done.stderr for word in said), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "model", "said"),
    [
        ({}, "other", "does not serve 'other'; it serves toy"),
        ({"key": "right"}, "toy", "answers 401"),
        (None, "toy", "does not answer"),
    ],
    ids=["wrong model", "wrong key", "nobody there"],
)
def test_a_server_that_cannot_be_measured_is_refused_before_any_load(tmp_path, settings, model, said):
    if settings is None:
        done, served = bench(tmp_path, "http://127.0.0.1:9"), 0
    else:
        with running(**settings) as toy:
            done, served = bench(tmp_path, toy.base_url, model=model), toy.served
    assert (done.returncode, served) == (2, 0)
    assert said in done.stderr
    assert "remedy" in done.stderr
    assert not (tmp_path / "out" / "raw").exists()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://127.0.0.1:port"])
def test_what_is_no_url_is_refused(tmp_path, url):
    done = bench(tmp_path, url)
    assert done.returncode == 2
    assert "no http or https URL" in done.stderr


def test_summary_json_carries_verdict_bracket_and_intervals(plain):
    folder, _ = plain
    said = json.loads((folder / "summary.json").read_text())
    assert {"validity", "reasons", "certificate", "highest_passing_rps", "lowest_failing_rps"} <= set(said)
    assert {"value", "low", "high"} == set(said["peak"]["output_tokens_per_hour"])
