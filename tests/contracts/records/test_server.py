"""What a server's record says of its accelerators."""

from tests.records import ACCELERATOR, server


def test_a_record_that_does_not_tell_how_many_serve_counts_all() -> None:
    """An older record never flatters the cost."""
    machine = ACCELERATOR.model_copy(update={"count": 8})
    assert server("", "", accelerator=machine).accelerators == 8
    assert server("", "", accelerator=machine, accelerators_used=2).accelerators == 2
