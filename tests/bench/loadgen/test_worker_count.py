"""`--workers`: how many processes make the load, and where."""

import pytest

from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.contracts.errors import InputError

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("text", "found"), [("4", (4, None, 5557)), ("2@0.0.0.0:99", (2, "0.0.0.0", 99))])
def test_workers_are_counted_and_placed(text: str, found: tuple[int | None, ...] | tuple[int | str, ...]) -> None:
    """`--workers` takes a count, or COUNT@HOST:PORT for other machines."""
    made = Workers.parse(text)
    assert (made.count, made.host, made.port) == found


@pytest.mark.parametrize("text", ["0", "two", "2@:x", "-1", "2@h:0", "2@h:65536"])
def test_what_is_no_number_of_workers_is_refused(text: str) -> None:
    """A mistyped `--workers` is rejected before any process starts."""
    with pytest.raises(InputError, match="no number of load processes"):
        Workers.parse(text)
