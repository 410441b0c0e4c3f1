"""Beside one server every mix is measured once, and none after a stop."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import records
from tests.breakeven.summaries import summary
from tests.frontdoor.gpu_benchmark.test_experiments import tables
from tests.frontdoor.stand_ins import ENGINE
from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.frontdoor.gpu_benchmark import experiments, measure_mixes
from tokenhour.frontdoor.gpu_benchmark.experiments import instance_of
from tokenhour.frontdoor.gpu_benchmark.measure_mixes import share_server
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.machine.run_folder import RunDir

pytestmark = pytest.mark.system


def test_a_mix_that_asks_for_another_server_is_refused(tmp_path: Path) -> None:
    """Mixes share a server's records once, and a mix with other server settings is rejected."""
    wanted = experiments.ProofRequest("shape:tiny", "cpu", quick=False, instance=instance_of("", tables(), "c7i.large@aws"))
    chat, other = (experiments.experiment(wanted, mix, ("none",), SearchSpec()) for mix in wanted.mixes)
    owner = RunDir.of(tmp_path, chat, "none").open(chat).path
    records.server("http://127.0.0.1:1", "").write(owner)
    records.checkpoint().write(owner)
    share_server(owner, other, tmp_path, "none")
    share_server(owner, other, tmp_path, "none")
    copied = RunDir.of(tmp_path, other, "none").path
    assert (copied / "server.json").read_bytes() == (owner / "server.json").read_bytes()
    assert not (copied / "superseded").exists()
    strange = other.model_copy(update={"serving": other.serving.model_copy(update={"max_num_seqs": 3})})
    with pytest.raises(InputError, match="another server"):
        share_server(owner, strange, tmp_path, "none")


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two mixes beside one server that "runs": their files."""
    wanted = experiments.ProofRequest("shape:tiny", "cpu", quick=False, instance=instance_of("", tables(), "c7i.large@aws"))
    mixes = [experiments.experiment(wanted, mix, ("none",), SearchSpec()) for mix in wanted.mixes]
    files = []
    for each in mixes:
        files.append(str(tmp_path / f"{each.name}.json"))
        Path(files[-1]).write_bytes(each.to_json())
    owner = RunDir.of(tmp_path, mixes[0], "none").open(mixes[0]).path
    records.server("http://127.0.0.1:1", "", engine=ENGINE).write(owner)
    records.checkpoint().write(owner)
    monkeypatch.setattr(measure_mixes, "engine_version", lambda _root: ENGINE)
    monkeypatch.setenv("TOKENHOUR_SERVER", str(owner / Server.file_name))
    return files


def test_beside_one_server_every_mix_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: list[str]
) -> None:
    """Every mix is measured even after an invalid one, and a second call measures nothing again."""
    asked = []

    def bench(arguments: Sequence[str]) -> int:
        asked.append(arguments)
        each = load_experiment(Path(arguments[2]))
        run = RunDir.of(tmp_path, each, "none").path
        inputs = measurement_inputs(each, Checkpoint.sha256_in(run), ENGINE)
        summary(run=run.name, inputs=inputs).write(run)
        return len(asked) - 1  # the second one is INVALID: exit code 1

    monkeypatch.setattr(measure_mixes, "run_step", bench)
    assert measure_mixes.measure("none", tmp_path, beside) == 1
    assert [arguments[2] for arguments in asked] == beside
    assert measure_mixes.measure("none", tmp_path, beside) == 0
    assert len(asked) == 2


@pytest.mark.parametrize("code", [143, -15])
def test_a_mix_that_was_stopped_is_followed_by_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: list[str], code: int
) -> None:
    """At a deadline the whole precision has to end: a further mix would begin and be killed in the middle."""
    asked = []

    def bench(arguments: Sequence[str]) -> int:
        asked.append(arguments[2])
        return code

    monkeypatch.setattr(measure_mixes, "run_step", bench)
    assert measure_mixes.measure("none", tmp_path, beside) == 143
    assert asked == beside[:1]
