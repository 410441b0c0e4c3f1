"""`tokenhour breakeven prices` on a command line."""

import json
from pathlib import Path

import pytest

from tests.breakeven.prices.seen import LITELLM, run
from tokenhour.contracts.errors import InputError


def test_the_shell_imports_lists_and_checks(tmp_path: Path) -> None:
    """The prices command imports into a file, lists by model, host or date, and rejects unknown models."""
    done = run("import", "litellm", str(LITELLM), "--model", "gpt-4o-mini", "--host", "openai")
    assert "input: 0.15" in done.stdout
    out = tmp_path / "more.yaml"
    assert run("import", "litellm", str(LITELLM), "--out", str(out)).exit_code == 0
    assert out.is_file()
    assert "gpt-4o-mini" in run("list", "--model", "4o-mini").stdout
    listed = json.loads(run("list", "--host", "google", "--on", "2027-02-01", "--json").stdout)
    assert {(r["model"], r["input"]) for r in listed} == {("gemini-3.1-flash-lite", "0.25"), ("gemini-3.8-flash", "1.5")}
    with pytest.raises(InputError, match="no price matches"):
        run("list", "--model", "gpt-9")
