"""Types in words, and texts that fit into a cell of a table."""

from typing import Any

import pytest

from tokenhour.frontdoor.docgen import row_pages
from tokenhour.frontdoor.docgen.type_names import cell, type_words


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"$ref": "#/$defs/Interval"}, "Interval"),
        ({"anyOf": [{"type": "number"}, {"type": "null"}]}, "number or null"),
        ({"anyOf": [{"type": "number"}, {"type": "number", "minimum": 0}]}, "number"),
        ({"enum": ["a", "b"], "type": "string"}, "`a`, `b`"),
        ({"const": 1, "type": "integer"}, "`1`"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, "list of list of integer"),
        ({"type": "object", "additionalProperties": {"$ref": "#/$defs/Part"}}, "map to Part"),
        ({"type": "string", "format": "date"}, "date"),
        ({}, "any"),
    ],
)
def test_a_type_is_said_in_words(spec: dict[str, Any], words: str) -> None:
    """A reader of the pages needs no JSON Schema."""
    assert type_words(spec) == words


def test_a_pipe_in_a_meaning_does_not_end_its_cell() -> None:
    """A pipe or line break in a description leaves the Markdown table intact."""
    assert cell(row_pages.meanings(Piped)["a"]) == "One \\| two lines."


class Piped:
    a: int
    """One | two
    lines."""
