"""Who holds the GPU, as NVML tells it, and two replicas on two GPUs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gpu.house import House, memory_used
from tokenhour.machine.prometheus import read_metrics

pytestmark = pytest.mark.gpu
HELD_BYTES = 2**30


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Hold a GiB of the GPU, and compute nothing, in a process of its own."""
    code = (
        f"import sys, torch\nheld = torch.ones({HELD_BYTES}, dtype=torch.uint8, device='cuda')\ntorch.cuda.synchronize()\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


def test_a_scan_lists_what_holds_the_gpu(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """An idle process that holds GPU memory is found, and not called waste before it was idle for long."""
    command = [sys.executable, "-m", "tokenhour", "serving", "scan", "--json", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"nothing has been idle for long: {done.stdout}{done.stderr}"
    said = json.loads(done.stdout)
    assert said["gpu_processes"] >= 1
    found = [each for each in said["findings"] if each["memory_bytes"] >= HELD_BYTES]
    assert found, said
    # Within a container the driver may name pids of another namespace: then the memory is held by nobody in sight.
    assert holder.pid in {each["pid"] for each in found} or {each["pid"] for each in found} == {None}
    assert all(each["pattern"] == "idle-memory" and not each["confirmed"] for each in found)


@pytest.mark.usefixtures("two_gpus")
def test_two_replicas_share_the_load_on_a_gpu_each(tmp_path: Path) -> None:
    """Each replica takes a GPU of its own and answers part of the requests."""
    before = memory_used()
    house = House(tmp_path)
    house.write(serving="replicas: 2")
    try:
        server = house.up()
        assert (server.accelerators_used, len(server.gpus), len(server.replicas)) == (2, 2, 2)
        grown = [now - then for now, then in zip(memory_used(), before, strict=True)]
        assert sum(each > HELD_BYTES for each in grown) == 2, grown
        with ThreadPoolExecutor(8) as many:
            said = list(many.map(lambda _: house.ask(), range(16)))
        assert all("four" in each for each in said), said
        answered = [read_metrics(one.base_url).get("vllm:request_success_total", 0.0) for one in server.replicas]
        assert min(answered) >= 2, answered
    finally:
        house.run("serving", "down", "--all")
