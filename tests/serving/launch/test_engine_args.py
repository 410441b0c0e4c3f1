"""Free engine arguments are held against the engine's own parser before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tokenhour.contracts.errors import InputError
from tokenhour.serving.launch.engine_args import Argument, check, known_arguments

KNOWN = {
    "--max-loras": Argument(takes_value=True, kind="int"),
    "--enable-lora": Argument(takes_value=False),
    "--no-enable-lora": Argument(takes_value=False),
    "--attention-backend": Argument(takes_value=True, choices=("FLASH_ATTN", "TRITON_ATTN")),
    "--compilation-config": Argument(takes_value=True),
}
# Stands in for the engine's interpreter: it counts how often it is asked.
PYTHON = """#!/bin/bash
echo asked >>"{folder}/asked"
echo "INFO a library that says something first"
echo '{answer}'
"""


@pytest.mark.parametrize(
    "arguments",
    [{"max_loras": 4}, {"enable-lora": True}, {"enable_lora": False}, {"attention_backend": "FLASH_ATTN"},
     {"compilation_config.mode": 3}],
)  # fmt: skip
def test_what_the_engine_knows_passes(arguments: dict[str, Any]) -> None:
    """Every spelling that vLLM's own parser accepts is accepted."""
    check(arguments, KNOWN, "vllm 1")


@pytest.mark.parametrize(
    ("arguments", "what", "remedy"),
    [
        ({"max_lora": 4}, "vllm 1 has no argument --max-lora", "did you mean --max-loras"),
        ({"zzzz": 1}, "no argument --zzzz", "--help"),
        ({"max_loras": False}, "no argument --no-max-loras", ""),
        ({"max_loras": True}, "takes a value", "give the value"),
        ({"max_loras": "many"}, "'many' is no int", "number"),
        ({"enable_lora": 3}, "given to a switch", "true or false"),
        ({"attention_backend": "FLASH"}, "none of its choices", "FLASH_ATTN"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_first(arguments: dict[str, Any], what: str, remedy: str) -> None:
    """A mistake in `engine_args` is found in milliseconds, with its field and a suggestion."""
    with pytest.raises(InputError, match=what) as caught:
        check(arguments, KNOWN, "vllm 1")
    assert remedy in caught.value.remedy
    assert caught.value.where == f"serving.engine_args.{next(iter(arguments))}"


def engine_python(tmp_path: Path, answer: str) -> str:
    """Make an interpreter that answers like the engine's and counts its calls."""
    python = tmp_path / "python"
    python.write_text(PYTHON.format(folder=tmp_path, answer=answer))
    python.chmod(0o755)
    return str(python)


def test_the_engine_is_asked_once_a_version(tmp_path: Path) -> None:
    """Asking imports vLLM for seconds, so the answer is cached by version."""
    answer = json.dumps({"--max-loras": {"takes_value": True, "kind": "int", "choices": []}})
    python = engine_python(tmp_path, answer)
    for _ in range(3):
        assert known_arguments(python, "vllm 1.0", tmp_path) == {"--max-loras": Argument(takes_value=True, kind="int")}
    assert (tmp_path / "asked").read_text() == "asked\n"
    known_arguments(python, "vllm 1.1", tmp_path)
    assert (tmp_path / "asked").read_text() == "asked\n" * 2


def test_a_damaged_cache_is_asked_again(tmp_path: Path) -> None:
    """A torn cache file costs one more question, not a failed start."""
    (tmp_path / "arguments-vllm-1.json").write_text("{")
    python = engine_python(tmp_path, json.dumps({"--x": {"takes_value": False, "kind": "", "choices": []}}))
    assert known_arguments(python, "vllm 1", tmp_path) == {"--x": Argument(takes_value=False)}


def test_an_engine_that_cannot_be_asked_is_one_message(tmp_path: Path) -> None:
    """A broken engine environment is reported without a traceback."""
    with pytest.raises(InputError, match="parser cannot be asked"):
        known_arguments(engine_python(tmp_path, "no JSON"), "vllm 1", tmp_path)
    with pytest.raises(InputError, match="parser cannot be asked"):
        known_arguments(str(tmp_path / "absent"), "vllm 1", tmp_path)
