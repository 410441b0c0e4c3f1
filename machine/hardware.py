"""What this machine is: CPU, memory, accelerators, installed packages, source revision. The standard library only."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from tokenhour.contracts.records.environment import Accelerator, Environment

PACKAGES = (
    "torch",
    "transformers",
    "gptqmodel",
    "llmcompressor",
    "auto-round",
    "compressed-tensors",
    "bitsandbytes",
    "locust",
    "gevent",
    "nvidia-ml-py",
    "numpy",
    "pandas",
    "pydantic",
)
# A container's own group of processes.
CGROUP = Path("/sys/fs/cgroup")


def capture(now_utc: str, *, packages: dict[str, str] | None = None) -> Environment:
    """Read this machine. `now_utc` is the wall-clock anchor (ISO 8601)."""
    revision = _git("rev-parse", "HEAD")
    return Environment(
        cpu_model=cpu_model(),
        cpu_count=usable_cpus(),
        cpu_flags=cpu_flags(),
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        python=platform.python_version(),
        accelerator=accelerator(),
        packages={**installed(PACKAGES), **(packages or {})},
        git_revision=revision,
        git_dirty=bool(_git("status", "--porcelain", "--untracked-files=no")) if revision else None,
        captured_utc=now_utc,
    )


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Map each installed distribution among `names` to its version."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def usable_cpus() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the CPU's name as the kernel gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> tuple[str, ...]:
    """Return which of the instruction sets that inference kernels ask for this CPU has."""
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "asimddp", "i8mm")
    have = set((_cpuinfo("flags") or _cpuinfo("Features") or "").split())
    return tuple(flag for flag in wanted if flag in have)


def memory_bytes() -> int:
    """Return the host's memory, or the container's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def available_memory_bytes() -> int:
    """Return what can be used now without swapping, within what the container's limit leaves."""
    within = min(memory_bytes(), _left_in_container())
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return within
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), within)
    return min(free, within)


def _left_in_container() -> int:
    """Return the container's limit less what is used of it; the page cache is given back when memory is asked for."""
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        lines = [line.split() for line in (CGROUP / "memory.stat").read_text().splitlines()]
    except OSError:
        return memory_bytes()
    if not limit.isdigit():
        return memory_bytes()
    cache = sum(int(value) for name, value in lines if name in {"active_file", "inactive_file"})
    return max(0, int(limit) - max(0, int(used) - cache))


@cache
def accelerator() -> Accelerator:
    """Return the GPUs that the driver lists, or the CPU host as one accelerator.

    Name and memory are those of the first that CUDA_VISIBLE_DEVICES leaves; the host where it hides all of them.
    """
    rows = _nvidia_smi()
    words = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), len(rows))
    if words:
        name, memory_mib, driver, _ = rows[number_of(words[0], [row[3] for row in rows]) or 0]
        return Accelerator(
            kind="cuda", name=name, count=len(rows), memory_bytes=int(float(memory_mib)) * 1024**2, driver=driver
        )
    return host()


def visible_gpus(said: str | None, count: int) -> tuple[str, ...]:
    """Return which of `count` GPUs CUDA_VISIBLE_DEVICES leaves, as it names them.

    As CUDA reads it: None (unset) leaves all, and a number that no GPU has hides itself and whatever comes after it.
    """
    if said is None or not count:
        return tuple(map(str, range(count)))
    words = [word.strip() for word in said.split(",")]
    bad = (index for index, word in enumerate(words) if not word or (_is_number(word) and not 0 <= int(word) < count))
    return tuple(words[: next(bad, len(words))])


def number_of(name: str, uuids: Sequence[str]) -> int | None:
    """Return the number of the GPU that CUDA_VISIBLE_DEVICES calls `name`: a number, or a UUID that may be cut short.

    None for one that the driver's list lacks, as it does a slice of a GPU (MIG).
    """
    if _is_number(name):
        return int(name) if 0 <= int(name) < len(uuids) else None
    return next((number for number, uuid in enumerate(uuids) if uuid.startswith(name)), None)


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdigit()


def host() -> Accelerator:
    """Return the CPU host as one accelerator."""
    return Accelerator(kind="cpu", name=f"{cpu_model()} x{usable_cpus()}", count=1, memory_bytes=memory_bytes())


def accelerator_for(device: str) -> Accelerator:
    """Return what a `device` of `cpu` or `cuda` computes on: a CPU engine on a machine with GPUs computes on its host."""
    return host() if device == "cpu" else accelerator()


def compute_capabilities(gpus: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the compute capabilities that the GPUs `gpus` (as CUDA_VISIBLE_DEVICES names them) have, the lowest first.

    Those of all GPUs where none is named (Ray chooses them); empty where they cannot be asked.
    """
    try:
        rows = _asked_driver("uuid,compute_cap")
        found = [(row[0], (int(row[1].split(".")[0]), int(row[1].split(".")[1]))) for row in rows]
    except (ValueError, IndexError):
        return ()
    uuids = [uuid for uuid, _ in found]
    # What the list lacks is a slice of one of them (MIG).
    numbers = {number for gpu in gpus if (number := number_of(gpu, uuids)) is not None} or range(len(found))
    return tuple(sorted({found[number][1] for number in numbers}))


def compute_capability() -> tuple[int, int] | None:
    """Return the lowest compute capability of the visible GPUs; None where it cannot be asked."""
    gpus = visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), len(_nvidia_smi()))
    return next(iter(compute_capabilities(gpus)), None)


def _nvidia_smi() -> list[tuple[str, str, str, str]]:
    """Return (name, MiB, driver, UUID) of each GPU, by number."""
    rows = _asked_driver("name,memory.total,driver_version,uuid")
    return [(row[0], row[1], row[2], row[3] if len(row) > 3 else "") for row in rows if len(row) >= 3]


def _asked_driver(fields: str) -> list[list[str]]:
    """Return nvidia-smi's `fields` of each GPU, by number; empty where there is none, or it does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    said = _output_of([tool, f"--query-gpu={fields}", "--format=csv,noheader,nounits"], 20) or ""
    return [[cell.strip() for cell in line.split(",")] for line in said.splitlines() if line.strip()]


def _output_of(command: list[str], timeout_s: float) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _cpuinfo(key: str) -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def _git(*args: str) -> str | None:
    said = _output_of(["git", "-C", str(Path(__file__).parent), *args], 10)
    return None if said is None else said.strip()
