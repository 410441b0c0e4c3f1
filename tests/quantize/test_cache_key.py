"""Whatever a checkpoint depends on is among its inputs, and nothing else."""

from pathlib import Path

import pytest

from tests.quantize.tiny import TEXT
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import ModelSpec, QuantizeSpec
from tokenhour.quantize.cache_key import Workshop, expected_inputs

pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", ["merges.txt", "tokenizer.model", "chat_template.jinja", "tokenizer_config.json"])
def test_a_tokenizer_or_template_that_was_changed_is_not_current(shop: tuple[Experiment, Workshop], name: str) -> None:
    """Tokenizer and chat template belong to the inputs, since they change what the model reads."""
    spec, where = shop
    file = Path(spec.model.source) / name
    before = expected_inputs(spec, "none", where)
    file.write_text((file.read_text() if file.exists() else "") + " ")
    assert expected_inputs(spec, "none", where)["weights"] != before["weights"]


def test_python_beside_the_weights_counts_where_it_is_trusted(shop: tuple[Experiment, Workshop]) -> None:
    """Code matters only with `trust_remote_code`, so a stray script does not cost a rebuild."""
    spec, where = shop
    trusting = spec.model_copy(update={"model": spec.model.model_copy(update={"trust_remote_code": True})})
    before = [expected_inputs(each, "none", where)["weights"] for each in (spec, trusting)]
    (Path(spec.model.source) / "modeling.py").write_text("pass")
    after = [expected_inputs(each, "none", where)["weights"] for each in (spec, trusting)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]


def test_a_text_in_the_home_folder_is_hashed_where_it_is_read(
    shop: tuple[Experiment, Workshop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `~` in a text's path is expanded, so a changed text is noticed."""
    spec, where = shop
    monkeypatch.setenv("HOME", str(tmp_path))
    texts = {"evaluation": {"source": "~/text.txt", "windows": 4, "window_tokens": 32}}
    homely = spec.model_copy(update={"quantize": QuantizeSpec.model_validate(texts)})
    before = expected_inputs(homely, "none", where)
    (tmp_path / "text.txt").write_text(TEXT + "more")
    assert expected_inputs(homely, "none", where) != before


def test_another_bundled_text_or_package_is_another_checkpoint(
    shop: tuple[Experiment, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade of the weights' package or of the bundled text makes checkpoints stale."""
    spec, where = shop
    packaged = spec.model_copy(update={"quantize": QuantizeSpec(), "model": ModelSpec(source="package:acme-weights/x.gguf")})
    monkeypatch.setattr("tokenhour.quantize.source.resolve.installed", lambda names: dict.fromkeys(names, "1.0"))
    before = expected_inputs(packaged, "none", where)
    monkeypatch.setattr("tokenhour.quantize.source.resolve.installed", lambda names: dict.fromkeys(names, "1.1"))
    after = expected_inputs(packaged, "none", where)
    assert {key for key in before if before[key] != after[key]} == {"package"}
    monkeypatch.setattr("tokenhour.quantize.cache_key.bundled_text", lambda: "of another Python")
    again = expected_inputs(packaged, "none", where)
    assert {key for key in after if after[key] != again[key]} == {"text:bundled"}


def test_each_scheme_has_inputs_of_its_own(shop: tuple[Experiment, Workshop]) -> None:
    """Schemes never share a checkpoint by accident."""
    spec, where = shop
    names = ("none", "w8a8", "gptq-int4", "gptq-int8", "w4a16")
    hashes = {name: expected_inputs(spec, name, where)["recipe"] for name in names}
    assert len(set(hashes.values())) == 5
