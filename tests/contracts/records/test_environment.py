"""What a measurement is reused by: the machine that it was made on."""

import pytest

from tests.records import ACCELERATOR
from tokenhour.contracts.records.environment import machine_sha256


def test_the_number_of_gpus_in_the_machine_decides_no_speed() -> None:
    """A server on one of eight GPUs runs as fast as on the only one, whatever the driver."""
    more = ACCELERATOR.model_copy(update={"count": 8, "driver": "580", "memory_bytes": 1})
    assert machine_sha256("Some CPU", 8, more) == machine_sha256("Some CPU", 8, ACCELERATOR)


@pytest.mark.parametrize(
    ("cpu", "cores", "changes"), [("Other", 8, {}), ("Some CPU", 4, {}), ("Some CPU", 8, {"name": "L4"})]
)
def test_another_cpu_core_count_or_accelerator_is_another_machine(cpu: str, cores: int, changes: dict[str, str]) -> None:
    """What was measured elsewhere is measured again."""
    here = machine_sha256("Some CPU", 8, ACCELERATOR)
    assert machine_sha256(cpu, cores, ACCELERATOR.model_copy(update=changes)) != here
