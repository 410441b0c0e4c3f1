"""What a summary divides by: the accelerators that served, however many stand in the machine."""

from typing import Any

import pytest

from tests import records
from tests.bench.conftest import experiment
from tests.breakeven.summaries import summary
from tokenhour.bench.summary.run_facts import of_server
from tokenhour.bench.target.discovery import of_server as target_of
from tokenhour.breakeven.inputs.capacity import measured
from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Quality, TextRecord
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import Server

EIGHT = Accelerator(kind="cuda", name="NVIDIA H100", count=8, memory_bytes=80 * 2**30)


def server(count: int, **changes: Any) -> Server:
    """Return a server's record on a machine with so many accelerators."""
    found = EIGHT.model_copy(update={"count": count})
    return records.server("http://127.0.0.1:1", "/m", accelerator=found, **changes)


@pytest.mark.parametrize(("count", "used"), [(1, 1), (2, 2), (8, 1), (8, 4)])
def test_the_gpus_that_serve_are_what_counts_in_old_and_new_records(count: int, used: int) -> None:
    """Older ones say what the machine has and, beside it, what was used."""
    found = of_server(experiment(), records.checkpoint(), server(count, accelerators_used=used))
    assert (found.accelerators_used, found.accelerator.count) == (used, used)


def test_a_record_that_does_not_tell_counts_them_all() -> None:
    """Older records divide by every accelerator, which never flatters the cost."""
    found = of_server(experiment(), records.checkpoint(), server(8))
    assert (found.accelerators_used, found.accelerator.count) == (8, 8)


def test_the_price_of_a_replica_is_that_of_the_gpus_that_it_used() -> None:
    """One of eight: it fits a machine with one GPU, and its capacity is not multiplied by eight."""
    subject = of_server(experiment(), records.checkpoint(), server(8, accelerators_used=1))
    plant = measured(summary(accelerator=subject.accelerator), "")
    assert (plant.accelerators, plant.origin.accelerators) == (1, 1)


def test_only_their_telemetry_is_asked_for() -> None:
    """Power and utilization are read from the GPUs that serve, not from idle neighbours."""
    assert target_of(experiment(), server(1, gpus=("5",))).gpus == ("5",)


def test_gpus_that_serve_on_this_machine_should_have_been_sampled() -> None:
    """GPU telemetry is expected where the server runs on a GPU, and only there."""
    assert of_server(experiment(), records.checkpoint(), server(1)).gpus_read
    assert not of_server(experiment(), records.checkpoint(), records.server("http://127.0.0.1:1", "/m")).gpus_read


@pytest.mark.parametrize(
    ("bound", "kl", "verdict"), [(0.05, 0.01, "PASS"), (0.05, 0.2, "FAIL"), (0.05, None, "FAIL"), (None, 0.2, "none")]
)
def test_the_gate_is_judged_by_the_experiment_that_measures(bound: float | None, kl: float | None, verdict: str) -> None:
    """Changing the gate changes the verdict of a kept checkpoint without quantizing anew."""
    asked = experiment()
    gate = QualityGate(max_mean_kl_divergence=bound)
    asked = asked.model_copy(update={"quantize": asked.quantize.model_copy(update={"gate": gate})})
    found = of_server(asked, records.checkpoint(quality=None if kl is None else quality(kl)), server(1))
    assert (found.quality_gate, found.mean_kl_divergence) == (verdict, kl)


def quality(kl: float) -> Quality:
    """Return a checkpoint's quality with this loss."""
    text = TextRecord(source="t", license="l", windows=1, window_tokens=16, sha256="0")
    return Quality(
        evaluation=text,
        perplexity=Interval(value=10),
        original_perplexity=10,
        perplexity_ratio=1,
        mean_kl_divergence=Interval(value=kl),
        top1_agreement=Interval(value=1),
    )
