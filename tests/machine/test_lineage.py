"""What a record stands on, held against what is there now."""

from tokenhour.machine.lineage import stale_inputs


def test_what_differs_or_is_missing_is_stale_and_what_else_was_recorded_is_not() -> None:
    """Comparing recorded hashes lists every changed and added input."""
    assert stale_inputs({"a": "1", "c": "3", "b": "2"}, {"a": "1", "b": "9", "d": "4"}) == ["b", "c"]
