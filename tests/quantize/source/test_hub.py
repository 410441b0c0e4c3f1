"""Text that is not bundled: a hub's dataset, and the user's conversations through a model's own chat template."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.hub import hub
from tests.quantize.tiny import tiny_model
from tokenhour.contracts.config.model_quantize import CalibrationSpec, EvaluationSpec, TextSpec
from tokenhour.contracts.errors import InputError
from tokenhour.quantize.data.text import calibration_windows, evaluation_windows, read_text
from tokenhour.quantize.model.tokenizer import ModelTokens

pytestmark = pytest.mark.system

ROWS = """
import json, sys
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.config.model_quantize import TextSpec
from tokenhour.quantize.source.hub import dataset_rows
try:
    spec = TextSpec.model_validate({"source": "hub:acme/tiny", "rows": 3, **json.loads(sys.argv[1])})
    print(json.dumps(list(dataset_rows(spec, "acme/tiny"))))
except InputError as error:
    print(json.dumps(str(error)))
"""
# Of the form that published models use, with what many of them refuse.
TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('only user and assistant') }}"
    "{% endif %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
)


def rows(tmp_path: Path, endpoint: str, offline: str = "0", **asked: Any) -> Any:
    """Read a dataset in a process of its own: the hub's clients read their settings when they are imported."""
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": offline, "HF_TOKEN": ""}
    argv = [sys.executable, "-c", ROWS, json.dumps(asked)]
    out = subprocess.run(argv, env={**os.environ, **settings}, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(out.stdout.splitlines()[-1])


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A repository of five rows in one split."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(5)))
    return folder


def test_the_first_rows_of_a_dataset_are_read_and_named(tmp_path: Path, dataset: Path) -> None:
    """Exactly the asked number of rows is read, each with a name for error messages."""
    with hub(dataset) as endpoint:
        found = rows(tmp_path, endpoint)
    assert found == [[f"hub:acme/tiny row {n + 1}", {"text": f"row {n}"}] for n in range(3)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"split": "absent"}, "Available splits: ['train']"), ({"revision": "absent"}, "Revision 'absent' doesn't exist")],
)
def test_a_split_or_revision_that_is_not_there_is_named(
    tmp_path: Path, dataset: Path, asked: dict[str, Any], said: str
) -> None:
    """A typo is answered with what exists and a remedy."""
    with hub(dataset) as endpoint:
        found = rows(tmp_path, endpoint, **asked)
    assert said in found
    assert "remedy:" in found


@pytest.mark.parametrize(("refusal", "said"), [("GatedRepo", "gated"), ("RepoNotFound", "exist")])
def test_what_the_hub_refuses_is_not_called_a_network(tmp_path: Path, dataset: Path, refusal: str, said: str) -> None:
    """Gated and absent datasets lead to the access token, not to a check of the network."""
    with hub(dataset, refusal=refusal) as endpoint:
        found = rows(tmp_path, endpoint)
    assert said in found, "in the words of the library, which has two ways to it, or in ours"
    assert "HF_TOKEN" in found
    assert "cannot be reached" not in found


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    """Being offline by accident and by setting are told apart."""
    assert "the hub cannot be reached" in rows(tmp_path, "http://127.0.0.1:9")
    assert "HF_HUB_OFFLINE is set" in rows(tmp_path, "http://127.0.0.1:9", offline="1")


def talks(tmp_path: Path, *conversations: list[dict[str, str]]) -> str:
    """Write conversations as the user keeps them, a line each."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in conversations))
    return str(file)


def turn(role: str, content: str) -> dict[str, str]:
    """Make one turn of a conversation."""
    return {"role": role, "content": content}


@pytest.fixture
def templated(tmp_path: Path) -> ModelTokens:
    """The tokenizer of a model that has a chat template."""
    folder = tiny_model(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return ModelTokens(folder)


def test_conversations_are_written_as_the_models_template_writes_them(tmp_path: Path, templated: ModelTokens) -> None:
    """Calibration sees conversations in the form and tokens that the model was trained on."""
    source = talks(tmp_path, [turn("user", "hi"), turn("assistant", "yes")], [turn("user", "the fox")])
    text = read_text(TextSpec(source=source), templated)
    assert text == "<|user|>hi</s><|assistant|>yes</s>\n\n<|user|>the fox</s>"
    # The template's marks are tokens of the model, not their letters.
    assert templated.encode("a</s>")[-1] == 1


def test_windows_are_cut_from_conversations(tmp_path: Path, templated: ModelTokens) -> None:
    """User conversations serve as calibration and evaluation text, with their end-of-turn tokens."""
    quick = "the quick brown fox number {} jumps over lazy dog {}."
    source = talks(tmp_path, *([turn("user", quick.format(n, n)), turn("assistant", f"{n}")] for n in range(200)))
    held_out = evaluation_windows(EvaluationSpec(source=source, windows=4, window_tokens=32), templated)
    found = calibration_windows(CalibrationSpec(source=source, windows=4, window_tokens=32), 0, held_out.ids, templated)
    assert held_out.ids.shape == found.ids.shape == (4, 32)
    assert (found.ids == 1).any(axis=1).all(), "the mark that ends a turn"
    assert found.record.license == "the user's own"


def test_a_conversation_that_the_template_refuses_is_named_by_its_line(tmp_path: Path, templated: ModelTokens) -> None:
    """Users find the faulty line in their file at once."""
    source = talks(tmp_path, [turn("user", "hi")], [turn("system", "be brief")])
    with pytest.raises(InputError, match="only user and assistant") as caught:
        read_text(TextSpec(source=source), templated)
    assert caught.value.where == f"{source}:2"
    assert caught.value.remedy


def test_conversations_for_a_model_without_a_chat_template_are_refused(tmp_path: Path) -> None:
    """A made-up template would calibrate on text that the model never sees."""
    source = talks(tmp_path, [turn("user", "hi")])
    with pytest.raises(InputError, match="no chat template, and the text holds conversations") as caught:
        read_text(TextSpec(source=source), ModelTokens(tiny_model(tmp_path / "m")))
    assert "plain text" in caught.value.remedy
