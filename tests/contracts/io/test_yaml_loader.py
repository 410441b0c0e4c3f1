"""A file that people edit is refused with its place, its mistakes and its neighbours."""

from pathlib import Path

import pytest

from tests.contracts.config.test_experiment import GOOD, refusal
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.errors import InputError


def test_two_mistakes_are_both_named(tmp_path: Path) -> None:
    """One attempt reports every mistake of the file; nobody fixes them one run at a time."""
    message = refusal(tmp_path, GOOD.replace("percentile: 90", "percentile: 10").replace("c7i.large", "[]"))
    assert "bench.slo.percentile" in message
    assert "economics.hardware" in message


def test_a_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    """A mistyped path is answered with the experiment files that lie beside it."""
    (tmp_path / "near.yaml").write_text(GOOD)
    with pytest.raises(InputError, match=r"near\.yaml"):
        load_experiment(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    """Empty files, lists and bare words are rejected before any field is looked for."""
    assert "expected fields" in refusal(tmp_path, text)
