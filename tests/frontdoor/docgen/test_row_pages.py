"""Every file of rows has a page, with each column's type and meaning."""

from dataclasses import fields

from tests.frontdoor.docgen.test_schemas import MODULES
from tokenhour.contracts.records.request import RequestRow
from tokenhour.frontdoor.docgen import row_pages
from tokenhour.frontdoor.docgen.schemas import generated
from tokenhour.machine.run_folder import EVENTS_FILE


def test_every_file_of_rows_has_a_page_with_every_column() -> None:
    """Each file of rows has a page that lists every column it contains."""
    named = {line.split('"')[1] for file in MODULES for line in file.read_text().splitlines() if "_FILE = " in line}
    named.add(EVENTS_FILE)
    assert named == {rows.file for rows in row_pages.ROWS}
    texts = {path.stem: text for path, text in generated()}
    for rows in row_pages.ROWS:
        assert all(f"| `{field.name}` |" in texts[rows.name] for field in fields(rows.kind))


def test_a_column_says_its_type_and_its_meaning() -> None:
    """The pages give each column a readable type, its presence and its meaning."""
    text = row_pages.page(row_pages.ROWS[0])
    assert "| `chunk_offsets_s` | list of number |" in text
    assert "| `sent_s` | number or null |" in text
    assert "| `probe` | integer | always there | Which probe of the run. |" in text
    assert "`success`, `http_error`" in text
    assert row_pages.meanings(RequestRow)["scheduled_s"] == "Planned arrival."
