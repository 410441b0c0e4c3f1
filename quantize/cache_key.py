"""What a checkpoint depends on, as hashes; its folder is named by them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import QuantizeSpec, is_shape
from tokenhour.contracts.io.atomic_io import sha256_file, sha256_of
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.machine.hardware import installed
from tokenhour.quantize.data.prompts import ANSWERS_FILE
from tokenhour.quantize.data.text import BUNDLED, bundled_text
from tokenhour.quantize.evaluation.cached_states import STATES_FILE
from tokenhour.quantize.scheme_table import MODULES, UNCALIBRATED, w4a16_method
from tokenhour.quantize.source.resolve import behind
from tokenhour.quantize.source.synthetic import shape_inputs

_VERSION = 6  # raise it when the same settings would give another checkpoint

# Of an original's files: what comes of its evaluation.
_OF_EVALUATION = (ANSWERS_FILE, STATES_FILE)
# What only these schemes read: another one's checkpoint stays current when it changes.
_OWN_SETTINGS = {"w8a8_method": ("w8a8",), "w4a16_method": ("w4a16",), "scale_search": ("gptq-int4", "w4a16")}


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where checkpoints and run folders are."""

    checkpoints: Path
    results: Path


def expected_inputs(experiment: Experiment, name: str, where: Workshop) -> dict[str, str]:
    """Return the hashes that a checkpoint of this scheme must have recorded to be current.

    The gate is not among them: it is judged on read. Those of a quantized one hold its original's files, once that is made.
    """
    spec = experiment.quantize
    section = spec.model_dump(mode="json", exclude={"gate"} if calibrated(name, spec) else {"gate", "calibration"})
    if name == "none":
        section = {key: section[key] for key in ("evaluation", "tasks")}
    for setting, owners in _OWN_SETTINGS.items():
        if name not in owners:
            section.pop(setting, None)
    return {
        "model": sha256_of(experiment.model.model_dump(mode="json")),
        **_weights(experiment),
        "recipe": sha256_of([_VERSION, name, section, *([w4a16_method.VERSION] if name == "w4a16" else [])]),
        "tools": sha256_of(installed(MODULES[name][1])),
        **_texts(spec, name),
        **shape_inputs(experiment.model.source),
        **({} if name == "none" or is_shape(experiment.model.source) else _original(experiment, where)),
    }


def _weights(experiment: Experiment) -> dict[str, str]:
    """Hash what a source on this machine holds: it may be trained further, or upgraded, under the same name."""
    files, package = behind(experiment.model)
    hashes = {"weights": sha256_of([(file.name, _hash(file, *_state(file))) for file in files])} if files else {}
    return hashes | ({"package": sha256_of(package)} if package else {})


def _texts(spec: QuantizeSpec, name: str) -> dict[str, str]:
    """Hash the texts; a hub's are known by their section alone, and the bundled one is another in another Python."""
    found = {}
    for source in {spec.evaluation.source} | ({spec.calibration.source} if calibrated(name, spec) else set()):
        file = Path(source).expanduser()
        if source == BUNDLED:
            found[f"text:{source}"] = sha256_of(bundled_text())
        elif file.is_file():
            found[f"text:{source}"] = _hash(file, *_state(file))
    return found


def _original(experiment: Experiment, where: Workshop) -> dict[str, str]:
    """Hash the original that was made here: of a repository without a pinned revision it is another one some day."""
    folder = folder_of(experiment, "none", where)
    if not Checkpoint.exists(folder):
        return {}
    files = Checkpoint.read(folder).files
    return {"original": sha256_of({name: digest for name, digest in files.items() if name not in _OF_EVALUATION})}


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
    digest = sha256_of(expected_inputs(experiment, name, where))[:12]
    last = experiment.model.source.rstrip("/").rsplit("/", 1)[-1].removeprefix("package:")
    label = re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"
    return where.checkpoints / f"{label}-{name}-{digest}"


def packed_of(folder: Path) -> Path:
    """Name the folder of weights that are packed and not evaluated yet; hidden, and without a manifest."""
    return folder.with_name(f".{folder.name}.packed")


def log_of(folder: Path) -> Path:
    """Name the log of what the libraries printed, beside the checkpoint: it stays when the making failed."""
    return folder.with_name(f"{folder.name}.log")
