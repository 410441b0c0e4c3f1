"""A record is written once, and read only where it is whole and has no strangers."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.records import checkpoint
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Checkpoint


def test_a_record_is_written_once_and_read_back_the_same(tmp_path: Path) -> None:
    """A second write neither replaces nor changes what a stage left."""
    found = checkpoint()
    found.write(tmp_path)
    with pytest.raises(FileExistsError):
        checkpoint(scheme="w8a8").write(tmp_path)
    assert Checkpoint.read(tmp_path) == Checkpoint.read(tmp_path / Checkpoint.file_name) == found


def test_a_record_that_is_not_there_names_its_stage_as_the_remedy(tmp_path: Path) -> None:
    """Whoever skipped a stage is told to run it."""
    assert not Checkpoint.exists(tmp_path)
    with pytest.raises(InputError, match=r"no checkpoint\.json here") as caught:
        Checkpoint.read(tmp_path)
    assert (caught.value.where, "run the stage" in caught.value.remedy) == (str(tmp_path), True)


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff\xfe"])
def test_a_torn_record_is_named(tmp_path: Path, torn: bytes) -> None:
    """Half a file, or another kind of file, is one message with its path."""
    file = tmp_path / Checkpoint.file_name
    file.write_bytes(torn)
    with pytest.raises(InputError, match="not a readable record") as caught:
        Checkpoint.read(tmp_path)
    assert caught.value.where == str(file)


def test_a_field_that_no_version_has_is_refused_with_the_page_of_all_fields() -> None:
    """A stranger in a record is never passed over in silence."""
    data = json.loads(checkpoint().to_json())
    with pytest.raises(InputError, match="unknown field colour") as caught:
        Checkpoint.parse({**data, "colour": "red"}, where="x")
    assert "docs/records/checkpoint.md" in caught.value.remedy


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_figure_is_infinite(value: float) -> None:
    """What was not measured is absent; JSON has no other word for it."""
    with pytest.raises(ValidationError, match="finite"):
        Interval(value=value)
