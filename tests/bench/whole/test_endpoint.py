"""`bench run --url` against servers that know more or less than vLLM; bad input is refused before any load is sent."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.bench.conftest import keep_certificate, make_model
from tests.bench.server import running
from tokenhour.bench.loadgen.subprocesses import free_port
from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.tables import read_table
from tokenhour.bench.summary.finalize import derive
from tokenhour.contracts.records.endpoint import Endpoint
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.summary import Summary
from tokenhour.machine.run_folder import RunDir

pytestmark = pytest.mark.system

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


Plain = tuple[Path, subprocess.CompletedProcess[str]]


def words_of(folder: Path, url: str, load: str = LOAD, model: str = "toy", verb: str = "run") -> list[str]:
    """Write the load file and return the command line."""
    (folder / "load.yaml").write_text(load)
    words = [sys.executable, "-m", "tokenhour.bench", verb, "--url", url, "--model", model]
    return [*words, "--workload", str(folder / "load.yaml"), "--out", str(folder / "out")]


def bench(
    folder: Path,
    url: str,
    load: str = LOAD,
    model: str = "toy",
    env: dict[str, str] | None = None,
    verb: str = "run",
    more: Iterable[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the bench command against a URL."""
    words = [*words_of(folder, url, load, model, verb), *more]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=env, timeout=100, check=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """Measure a server that speaks the chat API alone, with a key, and tells tokens only at the end."""
    folder = tmp_path_factory.mktemp("plain")
    model = make_model(folder / "model")
    load = LOAD + f"tokenizer: {model}/tokenizer.json\n"
    environment = {**os.environ, "OPENAI_API_KEY": "secret-key"}
    with running(plain=True, key="secret-key") as toy:
        keep_certificate(folder)
        done = bench(folder, toy.base_url + "/v1", load, env=environment)
    return folder / "out", done


def test_a_server_that_knows_less_is_measured_and_what_is_inexact_is_said(plain: Plain) -> None:
    """Each thing that could not be checked is a warning in the summary."""
    folder, done = plain
    found = Endpoint.read(folder)
    assert (found.api, found.token_ids, found.continuous_usage, found.exact_output) == ("chat", False, False, False)
    assert found.engine_counters is False
    assert found.template_tokens == 5
    said = " ".join(found.degraded)
    assert all(word in said for word in ("only at the end", "ignore_eos", "cross-checked", "whole endpoint"))
    assert set(found.degraded) <= set(Summary.read(folder).warnings)
    assert done.returncode in {0, 1}, done.stderr


def test_prompts_are_exact_for_its_tokenizer_template_included(plain: Plain) -> None:
    """The chat template's tokens are subtracted, so that prompts have the stated length."""
    folder, _ = plain
    rows = [r for r in read_table(folder / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    assert rows
    assert {r.prompt_tokens for r in rows} == {20}


def test_chunks_carry_the_text_when_tokens_are_told_at_the_end(plain: Plain) -> None:
    """Without usage per chunk the tokens are still placed in time, and add up."""
    folder, _ = plain
    rows = [r for r in read_table(folder / REQUESTS_FILE, RequestRow) if r.outcome == "success"]
    assert all(sum(r.chunk_tokens) == r.completion_tokens == 6 for r in rows)
    assert all(r.chunks == 6 and not r.tokens_spread for r in rows)


def test_the_key_is_in_no_record(plain: Plain) -> None:
    """Results can be published without leaking the API key."""
    folder, done = plain
    assert "secret-key" not in done.stdout + done.stderr
    assert not [f for f in folder.rglob("*") if f.is_file() and b"secret-key" in f.read_bytes()]


def test_the_summary_derives_again_without_an_experiment(plain: Plain) -> None:
    """An endpoint run carries everything that its summary needs."""
    folder, _ = plain
    words = [sys.executable, "-m", "tokenhour.bench", "summarize", str(folder)]
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
        (("percentile: 50, ", ""), ["slo.percentile", "load.yaml"]),
        (("percentile: 50, ttft_s: 1.0", "percentile: 50"), ["slo", "no bound"]),
        (("rates_rps: [60]", "rates_rps: [-1]"), ["arrivals.rates_rps", "-1"]),
        (("timeout_s: 4", "tokenizer: nowhere.json"), ["nowhere.json", "no such file"]),
    ],
)
def test_a_bad_load_file_is_refused_by_field_and_value(tmp_path: Path, change: tuple[str, ...], said: list[str]) -> None:
    """The mistake is named and not one request is sent."""
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
def test_a_server_that_cannot_be_measured_is_refused_before_any_load(
    tmp_path: Path, settings: dict[str, Any] | None, model: str, said: str
) -> None:
    """Wrong model, wrong key and no server each get their message and remedy."""
    if settings is None:
        done, served = bench(tmp_path, "http://127.0.0.1:9"), 0
    else:
        with running(**settings) as toy:
            done, served = bench(tmp_path, toy.base_url, model=model), toy.served
    assert (done.returncode, served) == (2, 0)
    assert said in done.stderr
    assert "remedy" in done.stderr
    assert not (tmp_path / "out" / raw_files.FOLDER).exists()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://127.0.0.1:port"])
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    """A host without a scheme, another scheme or a bad port exits with 2."""
    done = bench(tmp_path, url)
    assert done.returncode == 2
    assert "no http or https URL" in done.stderr


def test_summary_json_carries_verdict_bracket_and_intervals(plain: Plain) -> None:
    """Scripts find these fields under names that do not change."""
    folder, _ = plain
    said = json.loads((folder / "summary.json").read_text())
    assert {"validity", "reasons", "certificate", "highest_passing_rps", "lowest_failing_rps"} <= set(said)
    assert {"value", "low", "high"} == set(said["peak"]["output_tokens_per_hour"])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("log.csv", "time,prompt_tokens\n1,5\n", ["log.csv", "columns", "token counts are missing", "import-log"]),
        ("log.csv", "prompt_tokens,completion_tokens\n10,5\n10,five\n", ["log.csv:3", "completion_tokens = 'five'", "line"]),
        ("log.csv", "prompt_tokens,completion_tokens\n10,5\n10\n", ["log.csv:3", "2 columns", "line"]),
        ("log.jsonl", '{"prompt_tokens": 1, "completion_tokens": 2}\n{"prompt', ["log.jsonl:2", "not JSON", "line"]),
        ("absent.csv", None, ["absent.csv", "cannot be read", "check the path"]),
    ],
    ids=["missing column", "no number", "too short", "torn", "absent"],
)
def test_a_bad_log_as_a_workload_is_refused_by_file_line_and_field(
    tmp_path: Path, name: str, text: str | None, said: list[str]
) -> None:
    """A broken log is found before the load starts, with the line to mend."""
    if text is not None:
        (tmp_path / name).write_text(text)
    lengths = "  prompt: {mean_tokens: 20}\n  output: {mean_tokens: 6}\n"
    with running() as toy:
        done = bench(tmp_path, toy.base_url, LOAD.replace(lengths, f"  requests: {{file: {tmp_path / name}}}\n"))
        assert toy.served == 0
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(word in done.stderr for word in (*said, "remedy")), done.stderr
    assert "Traceback" not in done.stderr


def test_locusts_page_answers_while_a_run_goes_on(tmp_path: Path) -> None:
    """`--web-ui` shows the load on Locust's page without disturbing the run."""
    keep_certificate(tmp_path)
    port = free_port()
    load = LOAD.replace("probe_s: 0.8, max_probe_s: 0.8", "probe_s: 3, max_probe_s: 3")
    with running() as toy:
        words = [*words_of(tmp_path, toy.base_url, load), "--web-ui", str(port)]
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        page = ""
        stats: dict[str, Any] = {}
        while process.poll() is None and not (page and stats.get("user_count")):
            try:
                page = page or urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read().decode()
                stats = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests", timeout=2))
            except OSError:
                time.sleep(0.05)
        _, said = process.communicate(timeout=60)
    assert process.returncode in {0, 1}, said
    assert "Locust" in page, said
    assert stats["state"] in {"running", "spawning"}
    assert stats["user_count"] == 1


def test_without_a_compiler_the_run_stands_and_says_that_its_generator_is_uncertified(tmp_path: Path) -> None:
    """PATH holds Python and nothing else."""
    (tmp_path / "bin").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "CC"} | {"PATH": str(tmp_path / "bin")}
    with running() as toy:
        done = bench(tmp_path, toy.base_url, env=environment)
    said = Summary.read(tmp_path / "out")
    assert said.certificate is None
    assert said.uncertified.startswith("no C compiler: generator uncertified")
    assert said.uncertified in said.warnings
    assert "(generator uncertified)" in done.stdout
    again = derive(RunDir(tmp_path / "out"))
    assert again.uncertified == said.uncertified
