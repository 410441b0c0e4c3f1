"""A JSON Schema's type in words, for the records' pages."""

from __future__ import annotations

from typing import Any


def type_words(spec: dict[str, Any]) -> str:
    """Say the type of a field."""
    match spec:
        case {"$ref": str(ref)}:
            text = ref.rsplit("/", 1)[-1]
        case {"anyOf": list(choices)}:
            text = " or ".join(dict.fromkeys(type_words(choice) for choice in choices))
        case {"enum": list(values)}:
            text = ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            text = f"`{value}`"
        case {"type": "array", "items": dict(item)}:
            text = f"list of {type_words(item)}"
        case {"type": "object", "additionalProperties": dict(item)}:
            text = f"map to {type_words(item)}"
        case _:
            text = str(spec.get("format", spec.get("type", "any")))
    return text


def cell(text: str) -> str:
    """Put a text into a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
