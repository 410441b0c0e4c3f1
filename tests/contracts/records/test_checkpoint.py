"""A checkpoint is what its manifest lists: nothing else in its folder may reach an engine."""

from pathlib import Path

import pytest

from tests.records import checkpoint
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_file


@pytest.mark.parametrize("name", ["model-2.safetensors", "modeling.py"])
def test_weights_and_code_that_are_not_listed_are_refused(tmp_path: Path, name: str) -> None:
    """Extra weights or code would be loaded by the engine; harmless notes are allowed."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("a note of mine")
    found = checkpoint(files={"model.safetensors": sha256_file(tmp_path / "model.safetensors")})
    found.verify(tmp_path)
    (tmp_path / name).write_bytes(b"other")
    for names in (None, ()):
        with pytest.raises(InputError, match="not of the checkpoint") as caught:
            found.verify(tmp_path, names)
        assert caught.value.where == str(tmp_path / name)
