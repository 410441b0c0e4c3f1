"""A probe that was measured again bears no result."""

from tests.golden import file_of
from tokenhour.contracts.records.probe import Probes


def test_a_probe_that_was_measured_again_does_not_stand() -> None:
    """It is kept in the record, and in no figure, even where the second was disturbed as well."""
    kept = Probes.read(file_of(Probes, 1))
    first = kept.probes[0].model_copy(update={"probe": 0, "instead_of": None})
    second, third, other = (
        first.model_copy(update={"probe": probe, "instead_of": instead}) for probe, instead in ((1, 0), (2, 1), (3, None))
    )
    found = kept.model_copy(update={"probes": (first, second, third, other)})
    assert found.standing() == (third, other)
