"""`serving render` on the command line: its mistakes, and engine arguments that are wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tests.serving.test_render import EXAMPLE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gateway", str(EXAMPLE)), "no verdict.json here"),
        (("compose", str(EXAMPLE), "--scheme", "fp8"), "not among its schemes"),
        (("compose", "absent.yaml"), "no such file"),
        (("helm", str(EXAMPLE)), "helm"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Mistakes on the command line show one message and no traceback."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "render", *words, "--results", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def with_engine_args(tmp_path: Path, **arguments: Any) -> None:
    """Write the example experiment with these engine arguments."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["serving"]["engine_args"] = arguments
    (tmp_path / "exp.yaml").write_text(yaml.safe_dump(document))


def render_in(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `serving render k8s` in the folder."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "render", "k8s", "exp.yaml", "--device", "cuda"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)


def test_engine_arguments_are_held_against_the_installed_engine_or_said_to_be_unchecked(tmp_path: Path) -> None:
    """A wrong engine argument is caught before deployment; without an engine a warning says it was not checked."""
    with_engine_args(tmp_path, max_lora=4)
    unchecked = render_in(tmp_path)
    assert unchecked.returncode == 0, unchecked.stderr
    assert "no engine is installed here: serving.engine_args were not checked" in unchecked.stderr
    engine = tmp_path / ".venv-engine"
    (engine / "lib/python3.11/site-packages/vllm-1.0.dist-info").mkdir(parents=True)
    (engine / "bin").mkdir()
    (engine / "bin/python").touch()
    known = {"--max-loras": {"takes_value": True, "kind": "int", "choices": []}}
    (engine / "arguments-vllm-1.0.json").write_text(json.dumps(known))
    refused = render_in(tmp_path)
    assert refused.returncode == 2
    assert "vllm 1.0 has no argument --max-lora" in refused.stderr
    assert refused.stdout == ""
    with_engine_args(tmp_path, max_loras=4)
    done = render_in(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-loras" in done.stdout
