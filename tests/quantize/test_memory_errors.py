"""Memory that runs out is one message; other errors stay what they are."""

import pytest

from tokenhour.contracts.errors import RunFailedError
from tokenhour.quantize.memory_errors import memory_errors

pytestmark = pytest.mark.system


def test_an_allocation_that_fails_after_all_is_one_message_and_other_errors_are_not_hidden() -> None:
    """Running out of memory becomes a message; programming errors stay visible."""
    for error in (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")):
        with pytest.raises(RunFailedError, match="memory ran out"), memory_errors("w8a8"):
            raise error
    with pytest.raises(RuntimeError, match="shape"), memory_errors("w8a8"):
        raise RuntimeError("shape mismatch")
