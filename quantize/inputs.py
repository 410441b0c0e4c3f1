"""What a checkpoint depends on, as hashes; its folder is named by them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from contracts.environment import installed
from contracts.experiment import Experiment
from contracts.quantize_spec import QuantizeSpec
from contracts.store import sha256_file, sha256_of
from quantize.schemes import MODULES, UNCALIBRATED
from quantize.shapes import shape_inputs

_VERSION = 5  # raise it when the same settings would give another checkpoint

# What only these schemes read: another one's checkpoint stays current when it changes.
_OWN_SETTINGS = {"w8a8_method": ("w8a8",), "scale_search": ("gptq-int4", "w4a16")}


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where checkpoints and run folders are."""

    checkpoints: Path
    results: Path


def expected_inputs(experiment: Experiment, name: str) -> dict[str, str]:
    """Return the hashes that a checkpoint of this scheme must have recorded to be current.

    The gate is not among them: it is judged on read.
    """
    spec = experiment.quantize
    section = spec.model_dump(mode="json", exclude={"gate"} if calibrated(name, spec) else {"gate", "calibration"})
    if name == "none":
        section = {key: section[key] for key in ("evaluation", "tasks")}
    for setting, owners in _OWN_SETTINGS.items():
        if name not in owners:
            section.pop(setting, None)
    texts = {spec.evaluation.source} | ({spec.calibration.source} if calibrated(name, spec) else set())
    files = {f"text:{text}": sha256_file(Path(text)) for text in texts if Path(text).is_file()}
    weights = _local_weights(experiment.model.source)
    return {
        "model": sha256_of(experiment.model.model_dump(mode="json")),
        **({"weights": sha256_of([_hash(file, *_state(file)) for file in weights])} if weights else {}),
        "recipe": sha256_of([_VERSION, name, section]),
        "tools": sha256_of(installed(MODULES[name][1])),
        **files,
        **shape_inputs(experiment.model.source),
    }


def _local_weights(source: str) -> list[Path]:
    """Return the files behind a local source: a folder's weights may be trained further under the same name."""
    if not source.startswith((".", "/", "~")):
        return []
    place = Path(source).expanduser()
    return [place] if place.is_file() else sorted([*place.glob("*.safetensors"), *place.glob("*.json")])


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _hash(file: Path, _size: int, _mtime_ns: int) -> str:
    """Hash a file once a process; the times only tell this cache that it was written meanwhile."""
    return sha256_file(file)


def calibrated(name: str, spec: QuantizeSpec) -> bool:
    """Tell whether a scheme reads calibration text."""
    return name not in UNCALIBRATED and not (name == "w8a8" and spec.w8a8_method == "round-to-nearest")


def folder_of(experiment: Experiment, name: str, where: Workshop) -> Path:
    """Name the checkpoint's folder; the hash keeps variants of one scheme apart."""
    digest = sha256_of(expected_inputs(experiment, name))[:12]
    last = experiment.model.source.rstrip("/").rsplit("/", 1)[-1].removeprefix("package:")
    label = re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"
    return where.checkpoints / f"{label}-{name}-{digest}"


def packed_of(folder: Path) -> Path:
    """Name the folder of weights that are packed and not evaluated yet; hidden, and without a manifest."""
    return folder.with_name(f".{folder.name}.packed")


def log_of(folder: Path) -> Path:
    """Name the log of what the libraries printed, beside the checkpoint: it stays when the making failed."""
    return folder.with_name(f"{folder.name}.log")
