"""What the head of a GGUF file says, without its weights."""

from pathlib import Path

import pytest

from tests.quantize.packed import gguf_of
from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.quantize.source.resolve import resolve

pytestmark = pytest.mark.system


def test_a_gguf_files_licence_and_size_are_those_of_its_head(tmp_path: Path) -> None:
    """License and parameter count come from the file's head, without reading the weights."""
    from safetensors.torch import load_file

    model = tiny_model(tmp_path / "m")
    found = resolve(ModelSpec(source=str(gguf_of(model, tmp_path / "x.gguf", licence="mit"))))
    assert found.license == "mit"
    assert found.parameters == sum(tensor.numel() for tensor in load_file(model / "model.safetensors").values())
