"""Every record that the house writes has a page that says its fields, generated from the code."""

import importlib
from pathlib import Path

import pytest

from tokenhour.contracts.record import Record
from tokenhour.frontdoor.docgen.schemas import RECORDS, ROOT, main

MODULES = [file for file in Path("contracts").rglob("*.py") if file.stem != "__init__"]


def test_every_record_of_the_contracts_has_a_page() -> None:
    """Every kind of record is documented, so no file on disk is left unexplained."""
    for file in MODULES:
        importlib.import_module(".".join(("tokenhour", *file.with_suffix("").parts)))
    kinds = {kind for kind in Record.__subclasses__() if kind.__module__.startswith("tokenhour.contracts.")}
    assert len(kinds) > 15
    assert kinds <= set(RECORDS)


def test_check_names_a_page_that_is_out_of_date(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The check fails and names each outdated page until the pages are generated again."""
    monkeypatch.setattr("tokenhour.frontdoor.docgen.schemas.ROOT", tmp_path)
    assert main(["--check"]) == 1
    assert "docs/records/requests.md" in capsys.readouterr().out
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert (tmp_path / "docs/records/telemetry.md").read_text() == (ROOT / "docs/records/telemetry.md").read_text()
