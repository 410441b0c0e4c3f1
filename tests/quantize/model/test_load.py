"""Which models are loaded: none whose own code is not trusted."""

import json
from pathlib import Path

import pytest

from tests.quantize.tiny import tiny_model
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.model.load import refuse_unusable
from tokenhour.quantize.schemes.none import export
from tokenhour.quantize.source.resolve import ModelSource

pytestmark = pytest.mark.system


def test_code_in_a_repository_is_neither_run_nor_copied_unless_it_is_trusted(tmp_path: Path) -> None:
    """A model's own Python runs only with `trust_remote_code`, and pickles are never copied."""
    folder = tiny_model(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "modeling.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    # An architecture that transformers has of its own needs none of it.
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "modeling.X"}}))
    refuse_unusable(folder, trusted=False)
    source = ModelSource("m", folder, None, (folder / "model.safetensors",), None, None)
    for trusted in (False, True):
        target = tmp_path / str(trusted)
        target.mkdir()
        export(source, target, trusted=trusted)
        assert (target / "modeling.py").exists() == trusted
        assert not list(target.glob("pytorch_model*"))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "homemade", "auto_map": {"A": "b.C"}}))
    with pytest.raises(InputError, match="Python code that comes with the weights"):
        refuse_unusable(folder, trusted=False)
    refuse_unusable(folder, trusted=True)
