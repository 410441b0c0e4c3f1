"""The tables of the wider questions name what they stand on."""

from tests.breakeven.origins import page, parse
from tests.breakeven.scenarios import EVERYTHING, decide, scenario


def test_every_row_of_a_further_section_names_its_inputs() -> None:
    """Each row of an optional section links to the inputs it was computed from."""
    html = parse(page(decide(scenario(**EVERYTHING))))
    rows = [cell.parent for cell in html.all("td") if cell.attributes.get("class") == "from"]
    assert len(rows) > 20
    assert all([*row.all("a")] for row in rows), "each row has a link of its own, not only its column"
