"""A machine's rates: the fastest way that it has, by the median, and a reason where it has none."""

import time
from collections.abc import Callable

import pytest

from tokenhour.bench.roofline.machine_rates import fastest, here, measure, products, runnable, summarize
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.record import Interval


def test_rates_are_summarised_by_their_median() -> None:
    """One slow or fast repetition does not move the machine's rate."""
    assert summarize([1.0, 100.0, 3.0]) == Interval(value=3.0, low=1.0, high=100.0)


def test_a_way_that_this_machine_lacks_leaves_the_others() -> None:
    """A missing kernel costs its own rate only, and its first line says why."""

    def lacking() -> Callable[[], None]:
        raise NotImplementedError("no such product here\nand more")

    def done() -> None:
        return None

    assert runnable([lambda: lacking, lambda: done], lambda: None) == ([done], "no such product here")
    assert runnable([lacking], lambda: None) == ([], "no such product here")


def test_of_several_ways_the_fastest_is_measured() -> None:
    """A roofline needs the best that the machine can do."""
    slow, quick = (lambda: time.sleep(0.05)), (lambda: None)
    assert fastest([slow, quick], lambda: None) is quick
    assert fastest([quick, slow], lambda: None) is quick
    assert fastest([slow], lambda: None) is slow


@pytest.mark.parametrize(("device", "ways"), [("cpu", 2), ("cuda", 1)])
def test_a_cpu_may_compute_every_type_in_fp32_and_a_gpu_is_held_to_the_type(device: str, ways: int) -> None:
    """A CPU's fp32 may beat its slow low-precision paths; a GPU has units for each type."""
    torch = pytest.importorskip("torch")
    assert {kind: len(found) for kind, found in products(torch, device, 8).items()} == {
        "bf16": ways,
        "int8": ways,
        "fp8": ways,
    }


def test_this_machine_is_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small buffer and small matrices: the same code as the real measurement."""
    monkeypatch.setattr("tokenhour.bench.roofline.machine_rates.SIZES", {"cpu": (8 << 20, 128)})
    found = here("cpu")
    assert 1e8 < found.copy_bytes_per_s.value < 1e13
    assert found.matrix_ops_per_s["bf16"].value > 1e6
    assert set(found.matrix_ops_per_s) | set(found.absent) == {"bf16", "int8", "fp8"}


def test_a_device_that_is_not_there_is_an_input_error() -> None:
    """Asking for CUDA without a GPU gets a message instead of a traceback of torch."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(InputError, match="no CUDA device"):
        measure("cuda")
