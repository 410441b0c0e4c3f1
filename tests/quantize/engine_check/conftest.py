"""One quantized model for all tests of the check through an engine."""

from collections.abc import Iterator

import pytest

from tests.quantize import rounding
from tests.quantize.engine_check.toy_engine import Bench
from tokenhour.quantize import scheme_table


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Quantize the tiny model once for this folder, with a loss as large as that of INT4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scheme_table.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
        # A loss as large as that of INT4.
        patch.setattr(rounding, "GRID", 6)
        yield Bench(tmp_path_factory.mktemp("engine-quality"))
