"""What a summary divides by: the accelerators that served, however many stand in the machine."""

import pytest

from bench.subject import of_server
from bench.target import of_server as target_of
from breakeven.origin import measured
from contracts.environment import Accelerator
from tests import records
from tests.bench.conftest import experiment
from tests.breakeven.summaries import summary

EIGHT = Accelerator(kind="cuda", name="NVIDIA H100", count=8, memory_bytes=80 * 2**30)


def server(count, **changes):
    found = EIGHT.model_copy(update={"count": count})
    return records.server("http://127.0.0.1:1", "/m", accelerator=found, **changes)


@pytest.mark.parametrize(("count", "used"), [(1, 1), (2, 2), (8, 1), (8, 4)])
def test_the_gpus_that_serve_are_what_counts_in_old_and_new_records(count, used):
    """Older ones say what the machine has and, beside it, what was used."""
    found = of_server(experiment(), records.checkpoint(), server(count, accelerators_used=used))
    assert (found.accelerators_used, found.accelerator.count) == (used, used)


def test_a_record_that_does_not_tell_counts_them_all():
    found = of_server(experiment(), records.checkpoint(), server(8))
    assert (found.accelerators_used, found.accelerator.count) == (8, 8)


def test_the_price_of_a_replica_is_that_of_the_gpus_that_it_used():
    """One of eight: it fits a machine with one GPU, and its capacity is not multiplied by eight."""
    subject = of_server(experiment(), records.checkpoint(), server(8, accelerators_used=1))
    plant = measured(summary(accelerator=subject.accelerator), "")
    assert (plant.accelerators, plant.origin.accelerators) == (1, 1)


def test_only_their_telemetry_is_asked_for():
    assert target_of(experiment(), server(1, gpus=("5",))).gpus == ("5",)


def test_gpus_that_serve_on_this_machine_should_have_been_sampled():
    assert of_server(experiment(), records.checkpoint(), server(1)).gpus_read
    assert not of_server(experiment(), records.checkpoint(), records.server("http://127.0.0.1:1", "/m")).gpus_read
