"""`tokenhour roofline` leaves its records beside the summary, and refuses another machine's rates."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests import records
from tests.bench.roofline.test_utilization import LLAMA_8B, rates
from tests.breakeven.summaries import EXPERIMENT, summary
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.standalone.roofline import MachineRates, Roofline
from tokenhour.frontdoor.roofline_command import cli, keep
from tokenhour.machine.run_folder import RunDir

HOST = Accelerator(kind="cpu", name="Some CPU x2", count=1, memory_bytes=2**34)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write one measured run with its model's configuration."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA_8B))
    folder = RunDir.of(tmp_path / "results", EXPERIMENT, "none").open(EXPERIMENT).path
    records.checkpoint(path=str(model), weight_bytes=16_060_522_496).write(folder)
    records.server("http://127.0.0.1:1", str(model)).write(folder)
    summary(synthetic=("dummy weights",)).write(folder)
    return folder


def measured(**changes: Any) -> MachineRates:
    """Return this machine's rates with some fields changed."""
    return rates(bf16=1e14, int8=2e14).model_copy(update={"accelerator": HOST, **changes})


def test_the_records_stand_beside_the_summary(run: Path) -> None:
    """The roofline is kept beside the summary it explains, and inherits its synthetic mark."""
    found = keep(run, measured())
    assert Roofline.read(run) == found
    assert found.kv_bytes_per_token == 131072
    assert found.synthetic == ("dummy weights",)
    assert found.inputs["summary.json"]
    assert "of copy bandwidth" in found.sentence()
    assert all(p.bandwidth_utilization > 0 and p.ops_utilization > 0 for p in found.points)


def test_again_moves_the_older_record_aside(run: Path) -> None:
    """Running the command again keeps the earlier roofline instead of overwriting it."""
    keep(run, measured())
    keep(run, measured())
    assert (run / "superseded/1/roofline.json").is_file()


def test_the_command_takes_rates_that_were_measured_before(run: Path, tmp_path: Path) -> None:
    """Rates measured earlier can be reused, so the machine need not be measured again."""
    measured().write(tmp_path)
    done = CliRunner().invoke(cli, [str(run), "--rates", str(tmp_path / MachineRates.file_name)])
    assert done.exit_code == 0, done.output
    assert "peak:" in done.output


def test_another_machines_rates_are_refused(run: Path) -> None:
    """Rates of another machine are rejected, because utilization against them would be meaningless."""
    other = HOST.model_copy(update={"name": "NVIDIA H100", "kind": "cuda"})
    with pytest.raises(InputError, match="Some CPU x2, the rates are of NVIDIA H100"):
        keep(run, measured(accelerator=other))
    assert not (run / "roofline.json").exists()


def test_a_model_without_a_known_arithmetic_is_refused(run: Path, tmp_path: Path) -> None:
    """Mixture-of-experts models are rejected, because their work per token is not known here."""
    (tmp_path / "model/config.json").write_text(json.dumps({**LLAMA_8B, "num_local_experts": 8}))
    with pytest.raises(InputError, match="dense decoder"):
        keep(run, measured())


def test_a_checkpoint_that_is_elsewhere_by_now_is_named(run: Path, tmp_path: Path) -> None:
    """A checkpoint that was moved or deleted is reported with the folder where it was expected."""
    (tmp_path / "model/config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json here") as caught:
        keep(run, measured())
    assert caught.value.where == str(tmp_path / "model")
