"""Types in words, and texts that fit into a cell of a table."""

from tokenhour.frontdoor.docgen import row_pages
from tokenhour.frontdoor.docgen.type_names import cell


def test_a_pipe_in_a_meaning_does_not_end_its_cell() -> None:
    """A pipe or line break in a description leaves the Markdown table intact."""
    assert cell(row_pages.meanings(Piped)["a"]) == "One \\| two lines."


class Piped:
    a: int
    """One | two
    lines."""
