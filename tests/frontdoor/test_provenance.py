"""A dollar figure can be walked back, and a file that changed since is found."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import records
from tests.breakeven.inputs.test_idle_savings import record as idle_record
from tests.breakeven.summaries import EXPERIMENT, summary
from tokenhour.breakeven.stage import run as solve
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.request import REQUESTS_FILE
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.frontdoor.provenance import cli, find
from tokenhour.machine.run_folder import RunDir


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Write three whole runs and a verdict over them."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"weights")
    files = {"model.safetensors": sha256_file(weights / "model.safetensors")}
    for scheme in EXPERIMENT.schemes:
        run = RunDir.of(tmp_path / "results", EXPERIMENT, scheme).open(EXPERIMENT)
        records.checkpoint(scheme=scheme, path=str(weights), files=files).write(run.path)
        records.server("http://127.0.0.1:1", str(weights), scheme=scheme).write(run.path)
        for name in (REQUESTS_FILE, TELEMETRY_FILE):
            (run.path / name).write_bytes(name.encode())
        inputs = {name: sha256_file(run.path / name) for name in (REQUESTS_FILE, TELEMETRY_FILE)}
        inputs |= {f"experiment.{section}": EXPERIMENT.section_sha256(section) for section in ("serving", "bench")}
        inputs |= {kind.file_name: kind.sha256_in(run.path) for kind in (Checkpoint, Server)}
        summary(scheme, inputs=inputs).write(run.path)
    solve(EXPERIMENT, tmp_path / "results", Path("configs/prices"), allow_invalid=False)
    return tmp_path / "results"


def test_a_verdict_leads_to_prices_raw_rows_and_weights_and_all_is_intact(results: Path) -> None:
    """Tracing a verdict lists its prices, raw rows and weights, and confirms that none has changed."""
    done = CliRunner().invoke(cli, [str(results / "golden")], catch_exceptions=False)
    assert done.exit_code == 0
    for expected in ("summary.json", REQUESTS_FILE, "model.safetensors", "gpt-4o-mini at openai", "checked", "c7i.large"):
        assert expected in done.output
    assert "CHANGED" not in done.output


@pytest.mark.parametrize(
    "name", ["summary.json", REQUESTS_FILE, TELEMETRY_FILE, "checkpoint.json", "server.json", "experiment.json"]
)
def test_each_file_that_changed_is_found_and_named(results: Path, name: str) -> None:
    """A file changed since the verdict is reported by name, so no figure rests on altered data unnoticed."""
    file = results / "golden-w8a8" / name
    text = file.read_text()
    changes = {"summary.json": ("VALID", "VALID "), "experiment.json": ('"max_num_seqs": 16', '"max_num_seqs": 17')}
    old, new = changes.get(name, (text[-1], text[-1] + " "))
    file.write_text(text.replace(old, new, 1) if name != "summary.json" else text + " ")
    with pytest.raises(RunFailedError, match=f"golden-w8a8/{name}"):
        CliRunner().invoke(cli, [str(results / "golden")], catch_exceptions=False)


def test_changed_weights_and_missing_rows_are_found(results: Path, tmp_path: Path) -> None:
    """Altered weights and deleted rows are both reported."""
    (tmp_path / "weights/model.safetensors").write_bytes(b"Weights")
    (results / "golden-none" / REQUESTS_FILE).unlink()
    broken = list(find(results / "golden-none" / "summary.json").broken())
    assert len(broken) == 2
    assert "missing" in broken[0]


def test_a_record_of_rest_that_changed_is_found(results: Path) -> None:
    """It stands in the verdict beside the summaries."""
    file = results / "golden-none" / "idle.json"
    idle_record().write(file.parent)
    solve(EXPERIMENT, results, Path("configs/prices"), allow_invalid=False)
    assert list(find(results / "golden").broken()) == []
    file.write_text(file.read_text() + " ")
    assert [text.split(":")[0] for text in find(results / "golden").broken()] == [str(file)]


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    """A folder without a verdict or summary is rejected, as it holds nothing to trace."""
    with pytest.raises(InputError, match="neither a verdict nor a summary"):
        find(tmp_path)
