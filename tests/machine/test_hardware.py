"""The GPU list comes from the driver's own tool; a machine without it is one CPU accelerator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tokenhour.machine import hardware

SMI = """#!/bin/sh
printf 'NVIDIA H200, 143771, 570.86.15, GPU-a\\nNVIDIA H200, 143771, 570.86.15, GPU-b\\n'
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    hardware.accelerator.cache_clear()
    yield
    hardware.accelerator.cache_clear()


def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a stand-in for nvidia-smi first on the path."""
    file = tmp_path / "nvidia-smi"
    file.write_text(script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_gpus_are_counted_with_name_memory_and_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nvidia-smi prints becomes the accelerator record, with memory in bytes."""
    tool(tmp_path, monkeypatch, SMI)
    found = hardware.accelerator()
    assert (found.kind, found.name, found.count, found.driver) == ("cuda", "NVIDIA H200", 2, "570.86.15")
    assert found.memory_bytes == 143771 * 1024**2


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho nonsense\n"])
def test_a_driver_that_does_not_answer_means_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A broken or strange nvidia-smi does not stop the tool: the machine counts as a CPU."""
    tool(tmp_path, monkeypatch, script)
    assert hardware.accelerator().kind == "cpu"


@pytest.mark.parametrize(("said", "kind"), [("", "cpu"), ("-1", "cpu"), ("1", "cuda"), (None, "cuda")])
def test_gpus_that_are_hidden_from_cuda_are_hidden_from_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, kind: str
) -> None:
    """CUDA_VISIBLE_DEVICES decides whether there is a GPU, as it does for the engine."""
    tool(tmp_path, monkeypatch, SMI)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if said is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert hardware.accelerator().kind == kind


@pytest.mark.parametrize(
    ("limit", "room"),
    # What is used, of which cached files can be dropped.
    [(2**20, 2**20 - 900_000 + 300_000), (800_000, 200_000), (500_000, 0)],
)
def test_a_containers_room_is_its_limit_without_what_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, room: int
) -> None:
    """Available memory honours the container's limit and counts droppable file cache as free."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\nactive_file 100000\ninactive_file 200000\nshmem 5\n")
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    assert hardware.available_memory_bytes() == room


def test_a_container_without_a_limit_has_what_the_host_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing or unlimited cgroup files fall back to the host's memory."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    for name, text in (("memory.max", "max"), ("memory.current", "900000"), ("memory.stat", "")):
        assert hardware.available_memory_bytes() > 10**7
        (tmp_path / name).write_text(text)
    assert hardware.available_memory_bytes() > 10**7


def test_the_machines_hash_ignores_what_does_not_decide_speed() -> None:
    """Time and packages do not make it another machine, so kept measurements stay comparable."""
    one = hardware.capture("2026-01-01T00:00:00+00:00")
    two = hardware.capture("2026-02-02T00:00:00+00:00", packages={"vllm": "1"})
    assert one.machine_sha256() == two.machine_sha256()
    assert two.packages["vllm"] == "1"


@pytest.mark.parametrize(
    ("limit", "current", "cache", "expected"),
    [
        ("8589934592", 6 * 2**30, 1 * 2**30, 3 * 2**30),
        ("8589934592", 1 * 2**30, 2 * 2**30, 8 * 2**30),
        ("1073741824", 2 * 2**30, 0, 0),
        ("max", 6 * 2**30, 0, None),
    ],
)
def test_what_a_container_already_uses_of_its_limit_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, current: int, cache: int, expected: int | None
) -> None:
    """Its page cache is given back when memory is asked for, so that it does not count as used."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{current}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\nactive_file {cache // 2}\ninactive_file {cache // 2}\nshmem 7\n")
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else 2**40)
    left = hardware._left_in_container()
    assert left == (2**40 if expected is None else expected)
    assert hardware.available_memory_bytes() <= left


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ("0", "1", "2")), ("", ()), ("-1", ()), ("2", ("2",)), ("2, 0", ("2", "0")), ("0,3,1", ("0",)),
        ("GPU-a,1", ("GPU-a", "1")), ("0,", ("0",)),
    ],
)  # fmt: skip
def test_cuda_visible_devices_is_read_as_cuda_reads_it(said: str | None, expected: tuple[str, ...]) -> None:
    """The list ends at the first invalid entry, as CUDA itself stops there."""
    assert hardware.visible_gpus(said, 3) == expected
    assert hardware.visible_gpus(said, 0) == ()


def test_a_gpu_is_found_by_number_or_by_a_uuid_that_may_be_cut_short() -> None:
    """Numbers and UUID prefixes lead to the same index; what is not there leads to none."""
    uuids = ["GPU-11aa", "GPU-22bb"]
    assert [hardware.number_of(name, uuids) for name in ("1", "7", "GPU-22", "GPU-11aa", "MIG-3", "GPU-3")] == [
        1, None, 1, 0, None, None,
    ]  # fmt: skip
