"""Measure what this machine's accelerator copies and multiplies at most, with torch.

Its own process, run by `python -m`. Nothing else may run on the accelerator meanwhile: an engine holds its memory and
its cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.standalone.roofline import MachineRates, MatrixType
from tokenhour.machine.hardware import accelerator_for
from tokenhour.machine.processes import die_with_parent
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import now_utc

Device = Literal["cpu", "cuda"]
_REPEATS = 15
_LIMIT_S = 120.0
# Bytes of the copied buffer and edge of the matrices: beyond any cache, and long enough for a timer.
SIZES: dict[str, tuple[int, int]] = {"cpu": (256 << 20, 1024), "cuda": (2 << 30, 8192)}


def summarize(samples: list[float]) -> Interval:
    """Return the median of rates with the middle 95 % of them."""
    ordered = sorted(samples)
    cut = int(0.025 * len(ordered))
    return Interval(value=statistics.median(ordered), low=ordered[cut], high=ordered[len(ordered) - 1 - cut])


def measure(device: Device, *, timeout_s: float = _LIMIT_S) -> MachineRates:
    """Measure in a process of its own, so that no memory stays taken. Raises InputError where torch has no such device."""
    with Status(f"this machine's copy bandwidth and matrix rates ({device})"):
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tokenhour.bench.roofline.machine_rates", device],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(
                f"the machine's rates were not measured within {timeout_s:.0f} s",
                where="tokenhour.bench.roofline.machine_rates",
                remedy="end what else uses the accelerator, and run the same command again",
            ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no word"]
        kind = InputError if done.returncode == 2 else RunFailedError
        raise kind(
            said[-1].removeprefix("error: "),
            where="tokenhour.bench.roofline.machine_rates",
            remedy=f"make setup DEVICE={device}; make doctor",
        )
    return MachineRates.parse(json.loads(done.stdout), where="tokenhour.bench.roofline.machine_rates")


def timed(
    run: Callable[[], Any], wait: Callable[[], None], amount: float, *, warm: int = 3, repeats: int = _REPEATS
) -> Interval:
    """Run something until warm, then a number of times; return `amount` a second."""
    for _ in range(warm):
        run()
    wait()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        wait()
        rates.append(amount / (time.perf_counter() - began))
    return summarize(rates)


Product = Callable[[], Callable[[], Any]]
"""Prepares the operands and returns the product to time."""


def products(torch: Any, device: Device, size: int) -> dict[MatrixType, tuple[Product, ...]]:
    """Return, by type, the ways to compute it."""

    def bf16() -> Callable[[], Any]:
        a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        return lambda: a @ b

    def int8() -> Callable[[], Any]:
        a, b = (torch.randint(-127, 128, (size, size), device=device, dtype=torch.int8) for _ in range(2))
        return lambda: torch._int_mm(a, b.t())  # noqa: SLF001 (torch's only public way to integer products)

    def fp8() -> Callable[[], Any]:
        a, b = (torch.randn(size, size, device=device).clamp(-4, 4).to(torch.float8_e4m3fn) for _ in range(2))
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: SLF001

    def fp32() -> Callable[[], Any]:
        a, b = (torch.randn(size, size, device=device) for _ in range(2))
        return lambda: a @ b

    if device == "cuda":
        return {"bf16": (bf16,), "int8": (int8,), "fp8": (fp8,)}
    # A CPU without arithmetic of a type computes it in fp32, and so do its engines: torch's own product would be no limit.
    return {"bf16": (bf16, fp32), "int8": (int8, fp32), "fp8": (fp8, fp32)}


def fastest(runs: Sequence[Callable[[], Any]], wait: Callable[[], None]) -> Callable[[], Any]:
    """Return the one that takes the least time, each tried once after once to warm up."""
    if len(runs) == 1:
        return runs[0]
    return max(runs, key=lambda run: timed(run, wait, 1.0, warm=1, repeats=1).value)


def runnable(
    ways: Sequence[Callable[[], Callable[[], Any]]], wait: Callable[[], None]
) -> tuple[list[Callable[[], Any]], str]:
    """Return those of several ways that this machine has, each done once, and why the last of the others is not there."""
    runs, why = [], ""
    for prepare in ways:
        try:
            run = prepare()
            run()
            wait()
        except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        else:
            runs.append(run)
    return runs, why


def here(device: Device) -> MachineRates:
    """Measure in this process."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device", where="device", remedy="make setup DEVICE=cuda")

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    began = time.monotonic()
    copied, size = SIZES[device]
    source = torch.empty(copied, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), wait, 2.0 * copied)
    found: dict[MatrixType, Interval] = {}
    absent: dict[MatrixType, str] = {}
    for kind, ways in products(torch, device, size).items():
        runs, why = runnable(ways, wait)
        if runs:
            found[kind] = timed(fastest(runs, wait), wait, 2.0 * size**3)
        else:
            absent[kind] = why
    return MachineRates(
        accelerator=accelerator_for(device),
        device=device,
        copy_bytes_per_s=copy,
        matrix_ops_per_s=found,
        absent=absent,
        copied_bytes=copied,
        matrix_size=size,
        torch=str(torch.__version__),
        seconds=time.monotonic() - began,
        created_utc=now_utc(),
    )


def main() -> None:
    """Measure on the device that the first argument names and print the record."""
    import os

    die_with_parent(os.getppid())
    device: Device = "cuda" if sys.argv[1:] == ["cuda"] else "cpu"
    try:
        sys.stdout.buffer.write(here(device).to_json())
    except InputError as error:
        print(f"error: {error.what}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
