"""Every kind of record has a golden file of each version that the code reads.

Versions are what a class allows in `version` and what the History at the head of its file lists; all of them were written.
The rows of requests.parquet, telemetry.parquet, events.jsonl and idle.jsonl carry no version, and the price tables and the
scan policy are no records of a run: people edit them, and those in configs/ are read by other tests.
"""

import inspect
import json
import platform
import re
import sys

import pytest

from tests.golden import GOLDEN, file_of, kinds, versions
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.record import Record

KINDS = kinds()
EACH = [(kind, version) for kind in KINDS for version in versions(kind)]
IDS = [f"{kind.kind()}-v{version}" for kind, version in EACH]
# A folder of somebody's machine, or an address in somebody's network.
PRIVATE = re.compile(r'"/\w|/(?:tmp|home|root|work|mnt|Users)/|\b(?:10|192\.168)(?:\.\d{1,3}){2,3}\b')


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_the_versions_that_are_read_are_those_of_the_history(kind: type[Record]) -> None:
    """A version without a line of history, or a line without a reader, is a mistake."""
    said = inspect.getdoc(sys.modules[kind.__module__]) or ""
    history = re.findall(r"^    (\d+)  ", said.partition("History\n")[2], re.MULTILINE)
    assert sorted(map(int, history)) == list(versions(kind))


def test_every_golden_is_of_a_version_that_is_read() -> None:
    """A golden whose kind or version is gone would be forgotten without being missed."""
    assert {file.name for file in GOLDEN.glob("*.json")} == {file_of(*each).name for each in EACH}


@pytest.mark.parametrize(("kind", "version"), EACH, ids=IDS)
def test_a_golden_is_read_and_keeps_its_version(kind: type[Record], version: int) -> None:
    """What an older version of the code wrote stays readable."""
    assert kind.read(file_of(kind, version)).model_dump()["version"] == version


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind())
def test_a_golden_of_the_newest_version_is_written_again_byte_by_byte(kind: type[Record]) -> None:
    """A change of any field is seen here; for a new one with a default run `python -m tests.golden`."""
    file = file_of(kind, versions(kind)[-1])
    assert kind.read(file).to_json() == file.read_bytes()


@pytest.mark.parametrize(("kind", "version"), EACH, ids=IDS)
def test_a_changed_field_name_is_refused(kind: type[Record], version: int) -> None:
    """No field of a record can be renamed without a new version."""
    data = json.loads(file_of(kind, version).read_bytes())
    for name in kind.model_fields.keys() & data.keys() - {"record", "version"}:
        other = {(f"{key}_renamed" if key == name else key): value for key, value in data.items()}
        with pytest.raises(InputError):
            kind.parse(other, where=name)


@pytest.mark.parametrize(("kind", "version"), EACH, ids=IDS)
def test_a_golden_names_no_place_of_the_machine_that_wrote_it(kind: type[Record], version: int) -> None:
    """Goldens are published: no absolute path, no address, no host name."""
    text = file_of(kind, version).read_text()
    assert not PRIVATE.search(text)
    assert platform.node() not in text.split('"')
