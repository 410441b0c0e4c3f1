"""Sleep levels on a real GPU with real weights: memory comes free, and whoever asks next gets the same answer."""

from collections.abc import Iterator

import pytest

from tests.gpu.house import House, memory_used
from tokenhour.contracts.standalone.idle import IdleRecord

pytestmark = pytest.mark.gpu
# 135M parameters in bf16 are 269 MB, and the KV cache (0.3 of the GPU) is many times that.
WEIGHT_BYTES = 250_000_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Prepare the model once, and stop every server at the end."""
    made = House(tmp_path_factory.mktemp("sleep"))
    yield made
    made.run("serving", "down", "--all")


@pytest.mark.parametrize("policy", ["sleep-1", "sleep-2"])
def test_asleep_it_frees_memory_and_awake_it_says_the_same(house: House, policy: str) -> None:
    """Both sleep levels release the weights' memory, and the waking request gets the same answer."""
    house.write(operations=f"idle: {{policy: {policy}, after_s: 6}}")
    house.up()
    first = house.ask()
    awake = sum(memory_used())
    house.until_asleep()
    asleep = sum(memory_used())
    assert awake - asleep > 2 * WEIGHT_BYTES, f"{awake} bytes awake, {asleep} asleep"
    assert house.ask() == first, "held, and answered by the weights that came back"
    assert sum(memory_used()) > asleep + WEIGHT_BYTES
    house.down()
    found = IdleRecord.read(house.folder)
    assert (found.policy, found.gpu_is_free, found.accelerators) == (policy, False, 1)
    # It sleeps again when the machine is slow to end it: the first wake is the one that was asked for.
    assert found.wakes[0].held_requests == 1
    assert 0 < found.wakes[0].penalty_s < 60
    assert found.released_bytes is not None
    assert found.released_bytes > 2 * WEIGHT_BYTES
    assert found.asleep_s > 0
