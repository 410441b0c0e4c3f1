"""Bad input: one clear message, exit code 2, nothing left behind."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.desk import Desk
from tests.quantize.hub import hub
from tests.quantize.packed import gguf_of
from tokenhour.contracts.errors import exit_code_of
from tokenhour.quantize.cli import cli

pytestmark = pytest.mark.system

# The second time the hub's client is told to stay offline.
TWICE = """
import sys
import huggingface_hub.constants as settings
from tokenhour.contracts.errors import exit_code_of
from tokenhour.quantize.cli import cli
for offline in (False, True):
    settings.HF_HUB_OFFLINE = offline
    if offline:
        import os
        os.environ["HF_HUB_OFFLINE"] = "1"
    print(exit_code_of(lambda: cli.main(sys.argv[1:], standalone_mode=False)))
"""


def _unknown_scheme(desk: Desk) -> None:
    desk.data["schemes"] = ["gptq-int44"]


def _truncated(desk: Desk) -> None:
    weights = desk.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _a_tensor_less(desk: Desk) -> None:
    from safetensors.torch import load_file, save_file

    weights = desk.model / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, {"format": "pt"})


def _no_tokenizer(desk: Desk) -> None:
    (desk.model / "tokenizer.json").unlink()


def _bad_tokenizer(desk: Desk) -> None:
    (desk.model / "tokenizer.json").write_text('{"model": 3}')


def _short_text(desk: Desk) -> None:
    Path(desk.data["quantize"]["evaluation"]["source"]).write_text("too short")


def _remote_code(desk: Desk) -> None:
    config = json.loads((desk.model / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "modeling.Mine"}}
    (desk.model / "config.json").write_text(json.dumps(config))


def _no_decoder(desk: Desk) -> None:
    (desk.model / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')


def _tasks_without_the_extra(desk: Desk) -> None:
    desk.data["quantize"]["tasks"] = {"names": ["arc_easy"]}


def _only_w4a16_has_zero_points(desk: Desk) -> None:
    desk.data["schemes"] = ["none", "gptq-int4"]
    desk.data["quantize"]["symmetric"] = False


def _a_layer_that_is_not_there(desk: Desk) -> None:
    desk.data["schemes"] = ["none", "gptq-int4"]
    desk.data["quantize"]["ignore"] = ["lm_head", "mlp.donw_proj"]


def _a_rule_that_matches_nothing(desk: Desk) -> None:
    desk.data["schemes"] = ["none", "gptq-int4"]
    desk.data["quantize"]["overrides"] = [{"match": "mlp.donw_proj", "bits": 8}]


def _no_pattern(desk: Desk) -> None:
    desk.data["quantize"]["ignore"] = ["re:*.mlp"]


def _a_group_below_all_kernels(desk: Desk) -> None:
    desk.data["quantize"]["group_size"] = 8


def _configure(desk: Desk, **changes: Any) -> None:
    config = json.loads((desk.model / "config.json").read_text())
    (desk.model / "config.json").write_text(json.dumps(config | changes))


def _quantized_already(desk: Desk) -> None:
    _configure(desk, quantization_config={"quant_method": "gptq", "bits": 4})


def _an_architecture_of_nobody(desk: Desk) -> None:
    _configure(desk, model_type="homemade")


def _no_name_of_a_hub(desk: Desk) -> None:
    desk.data["model"]["source"] = "acme/tiny.git"


def _no_name_of_a_hub_either(desk: Desk) -> None:
    desk.data["model"]["source"] = "acme/ti--ny"


def _widths_that_autoround_passes_over(desk: Desk) -> None:
    desk.data["schemes"] = ["none", "w4a16"]
    desk.data["quantize"]["w4a16_method"] = "autoround"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_widths_that_autoround_passes_over, "(model.layers.0.self_attn.q_proj: 48 x 48)"),
        (_only_w4a16_has_zero_points, "gptq-int4 is symmetric"),
        (_a_layer_that_is_not_there, "quantize.ignore: mlp.donw_proj: matches no layer"),
        (_a_rule_that_matches_nothing, "quantize.overrides: match: mlp.donw_proj: matches no layer"),
        (_no_pattern, "is no regular expression"),
        (_a_group_below_all_kernels, "groups of 8 have no kernel"),
        (_quantized_already, "quantized already (gptq)"),
        (_an_architecture_of_nobody, "has no causal language model 'homemade'"),
        (_no_name_of_a_hub, "not a name that a hub can have"),
        (_no_name_of_a_hub_either, "not a name that a hub can have"),
        (_unknown_scheme, "did you mean gptq-int4"),
        (_truncated, "not a whole safetensors file"),
        (_a_tensor_less, "1 tensors are missing: model.layers.1.mlp.up_proj.weight"),
        (_no_tokenizer, "no tokenizer"),
        (_bad_tokenizer, "tokenizer cannot be read"),
        (_short_text, "room for 0 windows"),
        (_remote_code, "trust_remote_code: true"),
        (_no_decoder, "not the config of a decoder"),
        (_tasks_without_the_extra, "lm-eval is not installed"),
    ],
)
def test_bad_input_is_one_message_exit_code_two_and_nothing_left_behind(
    desk: Desk, capfd: pytest.CaptureFixture[str], spoil: Callable[[Desk], None], said: str
) -> None:
    """Every mistake in model, text or settings is explained with a remedy and leaves no files."""
    spoil(desk)
    assert desk.run() == 2
    shown = capfd.readouterr().err
    assert said in shown
    assert "remedy:" in shown
    assert desk.left() == []


def test_nested_folders_that_were_made_for_a_run_that_was_refused_go_again(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    """A rejected run removes the empty folders that it made."""
    _short_text(desk)
    places = ["--results", str(desk.folder / "c/d"), "--checkpoints", str(desk.folder / "a/b")]
    arguments = [*desk.arguments()[:2], *places]
    assert exit_code_of(lambda: cli.main(arguments, standalone_mode=False)) == 2
    assert "room for 0 windows" in capfd.readouterr().err
    assert [name for name in ("a", "c") if (desk.folder / name).exists()] == []


@pytest.mark.parametrize("place", ["results", "checkpoints"])
def test_a_file_in_a_folders_place_is_one_message_and_left_alone(
    desk: Desk, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    """A user's file is never replaced by a folder of ours."""
    (desk.folder / place).write_text("mine")
    assert desk.run() == 2
    assert "a file stands where a folder is needed" in capfd.readouterr().err
    assert desk.left() == [place]


def _half(desk: Desk, file: Path) -> None:
    gguf_of(desk.model, file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _only_magic(_: Desk, file: Path) -> None:
    file.write_bytes(b"GGUF")


def _no_gguf(_: Desk, file: Path) -> None:
    file.write_bytes(b"pickle")


def _not_there(_desk: Desk, _file: Path) -> None:
    pass


def _no_language_model(desk: Desk, file: Path) -> None:
    gguf_of(desk.model, file, architecture="clip")


def _without_a_layer(desk: Desk, file: Path) -> None:
    gguf_of(desk.model, file, without="blk.1.ffn_up.weight")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_half, "the GGUF file cannot be read: "),
        (_only_magic, "the GGUF file cannot be read: "),
        (_no_gguf, "not a GGUF file"),
        (_not_there, "no such file"),
        (_no_language_model, "architecture clip is not supported"),
        (_without_a_layer, "1 tensors are missing: model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_a_gguf_file_that_cannot_be_read_is_one_message_and_nothing_left_behind(
    desk: Desk, capfd: pytest.CaptureFixture[str], write: Callable[[Desk, Path], None], said: str
) -> None:
    """Torn, foreign and incomplete GGUF files are named with a remedy, without a traceback."""
    file = desk.folder / "x.gguf"
    write(desk, file)
    desk.data["model"]["source"] = str(file)
    assert desk.run() == 2
    shown = capfd.readouterr().err
    assert said in shown
    assert f"{file}: " in shown
    assert shown.count("error:") == 1
    assert "remedy:" in shown
    assert "Traceback" not in shown
    assert desk.left() == []


def test_a_hub_that_refuses_or_cannot_be_reached_is_one_message(desk: Desk) -> None:
    """In one process of its own: the hub's client reads its settings when it is imported."""
    desk.data["model"]["source"] = "acme/tiny"
    with hub(desk.model, refusal="GatedRepo") as endpoint:
        settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(desk.folder / "hf"), "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"}
        argv = [sys.executable, "-c", TWICE, *desk.arguments()]
        done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["2", "2"], done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert done.stderr.count("error:") == 2
    assert desk.left() == []


def test_a_checkpoint_that_was_changed_is_refused_with_code_two_and_left_alone(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    """Changed weights are neither used nor removed."""
    assert desk.run() == 0
    weights = next((desk.folder / "checkpoints").glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    before = desk.left()
    assert desk.run() == 2
    assert "does not match its manifest" in capfd.readouterr().err
    assert desk.left() == before


def test_a_checkpoint_that_was_changed_leaves_no_folder_of_a_new_run(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """A rejected run leaves no empty run folder that looks like a result."""
    assert desk.run() == 0
    weights = next((desk.folder / "checkpoints").glob("*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    shutil.rmtree(desk.folder / "results")
    assert desk.run() == 2
    assert "does not match its manifest" in capfd.readouterr().err
    assert not (desk.folder / "results").exists()


def test_bad_input_takes_nothing_of_an_earlier_run_with_it(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    """Cleaning up after a mistake removes only what the failed run made."""
    assert desk.run() == 0
    before = desk.left()
    desk.data["schemes"] = ["none", "w8a8"]
    desk.data["quantize"]["calibration"]["windows"] = 10**6
    assert desk.run() == 2
    assert "room for" in capfd.readouterr().err
    assert [file for file in before if file not in desk.left()] == []
    assert [file for file in desk.left() if "w8a8" in file] == []


def test_a_hub_that_cannot_be_reached_leaves_nothing(desk: Desk) -> None:
    """Without a network and a cache the command exits with 2 and leaves no files."""
    desk.data["model"]["source"] = "acme/tiny"
    settings = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(desk.folder / "hf"), "HF_HUB_OFFLINE": "0"}
    argv = [sys.executable, "-m", "tokenhour.quantize", *desk.arguments()]
    done = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "the hub cannot be reached and this is not in its local cache" in done.stderr
    assert desk.left() == []
