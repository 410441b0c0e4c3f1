"""Where the tests of quantizing work: a desk with a command, a workshop, one model for all schemes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.desk import Desk
from tests.quantize.tiny import experiment, tiny_model
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.quantize import scheme_table
from tokenhour.quantize.build import current, make
from tokenhour.quantize.cache_key import Workshop


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A folder with an experiment that works until a test spoils it."""
    return Desk(tmp_path)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Workshop]:
    """Return (experiment over a tiny model, workshop), with a quick stand-in for the INT4 scheme."""
    monkeypatch.setitem(scheme_table.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
    return experiment(tiny_model(tmp_path / "m"), tmp_path / "text.txt"), Workshop(
        tmp_path / "checkpoints", tmp_path / "results"
    )


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkpoint]:
    """Return what makes a scheme of one model, with settings, into one workshop: the original is made once."""
    folder = tmp_path_factory.mktemp("schemes")
    model = tiny_model(folder / "m")
    where = Workshop(folder / "checkpoints", folder)

    def pack(scheme: str, **settings: Any) -> Checkpoint:
        spec = experiment(model, folder / "text.txt", **settings)
        return current(spec, scheme, where) or make(spec, scheme, where)

    return pack
