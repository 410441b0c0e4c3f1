"""The original weights as a folder of safetensors."""

import json
from pathlib import Path

import pytest

from tests.quantize.packed import gguf_of
from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.quantize.schemes.none import export
from tokenhour.quantize.source.resolve import resolve

pytestmark = pytest.mark.system


def test_a_gguf_file_is_named_by_its_path_and_holds_the_weights(tmp_path: Path) -> None:
    """Exporting a GGUF file restores every tensor of the original model."""
    from safetensors.torch import load_file

    model = tiny_model(tmp_path / "m")
    file = gguf_of(model, tmp_path / "Tiny-2.F32.gguf")
    found = resolve(ModelSpec(source=str(file)))
    assert (found.name, found.folder, found.gguf, found.files) == ("Tiny-2", tmp_path, file.name, (file,))
    assert (found.license, found.revision) == (None, None)
    assert "de-quantized from the GGUF file's F32" in found.note
    (tmp_path / "out").mkdir()
    assert export(found, tmp_path / "out")["method"] == "GGUF de-quantized to bf16"
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["eos_token"] == "</s>"
