"""A checkpoint's files against its manifest, before an engine starts."""

from pathlib import Path

import pytest

from tests.records import checkpoint
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.serving.engine.verify_weights import Verification


def test_weights_of_another_size_are_refused_before_their_hash_is_known(tmp_path: Path) -> None:
    """A wrong size is found at once, before gigabytes are hashed."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(100))
    files = {file.name: sha256_file(file)}
    Verification(checkpoint(path=str(tmp_path), files=files, weight_bytes=100))
    with pytest.raises(InputError, match="100 bytes, and 200 in it"):
        Verification(checkpoint(path=str(tmp_path), files=files, weight_bytes=200))


def test_a_shape_has_no_weights_to_compare(tmp_path: Path) -> None:
    """Its manifest says what they would weigh: they are random numbers, made by the engine."""
    file = tmp_path / "config.json"
    file.write_text("{}")
    Verification(checkpoint(path=str(tmp_path), files={file.name: sha256_file(file)}, weight_bytes=6_556_160))
