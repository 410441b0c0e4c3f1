"""A toy's records, as earlier stages would have left them, and one good measurement that many tests look at."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests import ROOT, records
from tests.bench.server import Server as ToyServer
from tests.bench.server import running
from tokenhour.bench.calibration.calibrate import kept_at
from tokenhour.bench.cli import cli
from tokenhour.bench.run import run
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import exit_code_of
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.generator_certificate import Accuracy, Certificate
from tokenhour.machine.run_folder import RunDir

BRIEF = {"saturation_s": 0.6, "probe_s": 0.6, "warmup_s": 0.1, "max_probes": 2, "max_probe_s": 0.6}
Measured = tuple[RunDir, Summary, ToyServer]


def experiment(**bench: Any) -> Experiment:
    """Return a toy experiment with these settings of the bench section."""
    return Experiment.model_validate(
        {
            "name": "toy",
            "model": {"source": "./model"},
            "serving": {"max_num_seqs": 4},
            "bench": {
                "workload": {"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}},
                "slo": {"percentile": 50, "ttft_s": 0.5},
                "search": BRIEF,
                "timeout_s": 4,
                "inactivity_timeout_s": 1.0,
                **bench,
            },
            "economics": {"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}]},
        }
    )


def make_model(folder: Path) -> Path:
    """Make a folder with a tiny real tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = ["[UNK]", "the", "a", "of", "is", "to", "in", "and", "class", "object", "value"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def certificate(**changes: Any) -> Certificate:
    """Return a certificate that no test's load exceeds."""
    fields = {
        "ceiling_chunks_per_s": 1e6,
        "ceiling_requests_per_s": 1e5,
        "ttft_error_p99_s": 1e-4,
        "ttft_error_mean_s": 1e-4,
        "interchunk_error_p99_s": 1e-5,
        "light": Accuracy(streams=16, ttft_error_mean_s=1e-4, ttft_error_p99_s=1e-4, interchunk_error_p99_s=1e-5),
        "levels": (),
        "ttft_limit_s": 0.01,
        "limited_by": "the levels tried",
        "reference": "made by a test, not measured",
        "workers": 1,
        "cores": 2,
        "kernel_timestamps": True,
        "machine_sha256": "",
        "code_sha256": "",
        "seconds": 1.0,
        "calibrated_utc": records.WHEN,
    }
    return Certificate.model_validate({**fields, **changes})


def keep_certificate(results: Path, workers: int = 1, **changes: Any) -> None:
    """Put it where `bench run` looks, so that a test does not wait for a calibration."""
    file = kept_at(results, workers)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(certificate(**changes).to_json())


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the tiny model once for all tests."""
    return make_model(tmp_path_factory.mktemp("model"))


def prepare(results: Path, model: Path, base_url: str, spec: Experiment) -> tuple[RunDir, Server]:
    """Write the records that earlier stages would have left."""
    run_dir = RunDir.of(results, spec, "none").open(spec)
    checkpoint = records.checkpoint(path=str(model))
    checkpoint.write(run_dir.path)
    server = records.server(base_url, str(model))
    server.write(run_dir.path)
    return run_dir, server


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Measured:
    """Measure a good server; an older summary stood in the folder."""
    search = {"saturation_s": 1.0, "probe_s": 1.0, "warmup_s": 0.2, "max_probes": 2, "max_probe_s": 1.5}
    spec = experiment(search=search)
    with running(slots=4, ttft_s=0.02, itl_s=0.004) as toy:
        run_dir, server = prepare(tmp_path_factory.mktemp("results"), model_folder, toy.base_url, spec)
        (run_dir.path / "summary.json").write_text("an older one")
        summary = run(spec, server, run_dir)
    return run_dir, summary, toy


def by_command(results: Path, run_dir: RunDir, **environment: str) -> tuple[int, Summary]:
    """Measure a prepared run by the command line; return its exit code and the summary.

    With variables of the environment in a process of its own, else in this one and without plots, which is quicker.
    """
    file = results / "experiment.yaml"
    file.write_bytes((run_dir.path / Experiment.file_name).read_bytes())
    manifest = (run_dir.path / Checkpoint.file_name).read_bytes()
    (Path(Server.read(run_dir.path).checkpoint_path) / Checkpoint.file_name).write_bytes(manifest)
    keep_certificate(results)
    words = ["run", str(file), "--scheme", "none", "--results", str(results)]
    if environment:
        argv = [sys.executable, "-m", "tokenhour.bench", *words]
        code = subprocess.run(argv, env={**os.environ, **environment}, timeout=200, check=False, cwd=ROOT).returncode
    else:
        with mock.patch("tokenhour.bench.cli._draw_apart"):
            code = exit_code_of(lambda: cli.main(words, standalone_mode=False))
    return code, Summary.read(run_dir.path)
