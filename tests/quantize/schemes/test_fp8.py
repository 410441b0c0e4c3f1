"""FP8 with the real library, on a tiny model."""

from collections.abc import Callable

import pytest

from tests.quantize.written import LINEARS, MOST_KL, kinds
from tokenhour.contracts.records.checkpoint import Checkpoint

pytestmark = pytest.mark.system


@pytest.mark.filterwarnings("default")
def test_fp8_packs_8_bit_floats_and_loads_on_a_cpu(packed: Callable[..., Checkpoint]) -> None:
    """FP8 needs no calibration and can be checked without a GPU."""
    found = packed("fp8")
    assert kinds(found).count("F8_E4M3") == LINEARS
    assert found.calibration is None
    assert 0 < found.quality.mean_kl_divergence.value < MOST_KL
