"""Make a checkpoint or reuse it: preflight, quantize, evaluate, manifest, one atomic folder."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contracts.checkpoint import Checkpoint, SourceRecord, TextRecord
from contracts.environment import installed, memory_bytes
from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.progress import Status
from contracts.quantize_spec import QuantizeSpec
from contracts.rundir import RunDir, now_utc
from contracts.store import atomic_folder, canonical_json, sha256_file, sha256_of
from contracts.units import human_bytes
from quantize.evaluate import greedy_answers, load_dense, same_choices, window_stats
from quantize.prompts import ANSWER_TOKENS, ANSWERS_FILE, PROMPTS
from quantize.quality import agreement, judge
from quantize.quiet import PeakMemory, quiet
from quantize.schemes import GROUPED, MODULES, UNCALIBRATED, Job, Recipe, check, resolve_group_size, scheme
from quantize.schemes.original import export
from quantize.shapes import is_shape, make_shape, shape_inputs
from quantize.source import Source, resolve
from quantize.text import calibration_windows, evaluation_windows
from quantize.tokens import ModelTokens

_VERSION = 3  # raise it when the same settings would give another checkpoint


@dataclass(frozen=True, slots=True)
class Made:
    """What quantizing itself left to tell."""

    recipe: Recipe
    calibration: TextRecord | None
    notes: tuple[str, ...]
    seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where checkpoints and run folders are."""

    checkpoints: Path
    results: Path


def expected_inputs(experiment: Experiment, name: str) -> dict[str, str]:
    """Return the hashes that a checkpoint of this scheme must have recorded to be current."""
    spec = experiment.quantize
    section = spec.model_dump(mode="json", exclude={"gate"} if calibrated(name, spec) else {"gate", "calibration"})
    if name == "none":
        section = {"evaluation": section["evaluation"]}
    texts = {spec.evaluation.source} | ({spec.calibration.source} if calibrated(name, spec) else set())
    files = {f"text:{text}": sha256_file(Path(text)) for text in texts if Path(text).is_file()}
    return {
        "model": sha256_of(experiment.model.model_dump(mode="json")),
        "recipe": sha256_of([_VERSION, name, section]),
        "tools": sha256_of(installed(MODULES[name][1])),
        **files,
        **shape_inputs(experiment.model.source),
    }


def calibrated(name: str, spec: QuantizeSpec) -> bool:
    """Tell whether a scheme reads calibration text."""
    return name not in UNCALIBRATED and not (name == "w8a8" and spec.w8a8_method == "round-to-nearest")


def folder_of(experiment: Experiment, name: str, where: Workshop) -> Path:
    """Name the checkpoint's folder; the hash keeps variants of one scheme apart."""
    digest = sha256_of(expected_inputs(experiment, name))[:12]
    last = experiment.model.source.rstrip("/").rsplit("/", 1)[-1].removeprefix("package:")
    label = re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"
    return where.checkpoints / f"{label}-{name}-{digest}"


def current(experiment: Experiment, name: str, where: Workshop) -> Checkpoint | None:
    """Return the finished checkpoint when its inputs still match; InputError when its files were changed since."""
    folder = folder_of(experiment, name, where)
    if not Checkpoint.exists(folder):
        return None
    found = Checkpoint.read(folder)
    if found.inputs != expected_inputs(experiment, name):
        return None
    found.verify(folder)
    return found


def make(experiment: Experiment, name: str, where: Workshop) -> Checkpoint:
    """Make one scheme's checkpoint (and the original's, when that is not there yet) and return its manifest."""
    check(name, experiment.quantize)
    if is_shape(experiment.model.source):
        return make_shape(experiment, name, folder_of(experiment, name, where), expected_inputs(experiment, name))
    if name == "none":
        return _make_original(experiment, where)
    original = current(experiment, "none", where) or _make_original(experiment, where)
    return _make_quantized(experiment, name, original, where)


def publish(checkpoint: Checkpoint, experiment: Experiment, results: Path) -> None:
    """Put the manifest into the run's folder; nothing is written when the same one stands there."""
    run = RunDir.of(results, experiment, checkpoint.scheme).open(experiment)
    copy = checkpoint.model_copy(update={"path": str(Path(checkpoint.path).resolve())})
    if Checkpoint.exists(run.path):
        if (run.path / Checkpoint.file_name).read_bytes() == copy.to_json():
            return
        run.supersede(Checkpoint.file_name)
    copy.write(run.path)


def _make_original(experiment: Experiment, where: Workshop) -> Checkpoint:
    folder = folder_of(experiment, "none", where)
    source = resolve(experiment.model)
    weights = sum(file.stat().st_size for file in source.files)
    preflight(where.checkpoints, weights * (4 if source.gguf else 1), weights * (12 if source.gguf else 4))
    with quiet(f"original weights of {source.name}", log_of(folder)) as status, atomic_folder(folder) as part:
        memory = PeakMemory()
        recipe = export(source, part)
        made = Made(recipe, None, (), status.elapsed_s(), memory.peak_bytes())
        origin = (source.name, source_record(experiment, source), part)
        return _finish(experiment, "none", part, folder, origin, made, status)


def _make_quantized(experiment: Experiment, name: str, original: Checkpoint, where: Workshop) -> Checkpoint:
    folder, base = folder_of(experiment, name, where), Path(original.path)
    preflight(where.checkpoints, original.weight_bytes, original.weight_bytes * 6)
    widths = layer_widths(base)
    group = resolve_group_size(experiment.quantize.group_size, widths)
    spec = experiment.quantize.calibration
    text = None
    if calibrated(name, experiment.quantize):
        tokens = ModelTokens(base)
        text = calibration_windows(spec, spec.seed, evaluation_windows(experiment.quantize.evaluation, tokens).ids, tokens)
    ids = text.ids if text else np.empty((0, spec.window_tokens), np.int64)
    with quiet(f"{name} of {original.model_name}", log_of(folder)) as status, atomic_folder(folder) as part:
        memory = PeakMemory()
        recipe = scheme(name).make(Job(base, part, experiment.quantize, ids, group))
        notes = _group_note(name, experiment.quantize.group_size, group, widths)
        made = Made(recipe, text.record if text else None, notes, status.elapsed_s(), memory.peak_bytes())
        origin = (original.model_name, original.source, base)
        return _finish(experiment, name, part, folder, origin, made, status)


def log_of(folder: Path) -> Path:
    """Name the log of what the libraries printed, beside the checkpoint: it stays when the making failed."""
    return folder.with_name(f"{folder.name}.log")


def source_record(experiment: Experiment, source: Source) -> SourceRecord:
    """Hash the files that the weights came from."""
    return SourceRecord(
        source=experiment.model.source,
        revision=source.revision,
        license=source.license,
        files={file.name: sha256_file(file) for file in source.files},
        note=source.note,
    )


def _group_note(name: str, wanted: int, group: int, widths: tuple[int, ...]) -> tuple[str, ...]:
    if name not in GROUPED or group == wanted:
        return ()
    return (f"group size {group} instead of {wanted}, which does not divide the widths {sorted(set(widths))}",)


def layer_widths(folder: Path) -> tuple[int, ...]:
    """Return the input widths of a decoder's linear layers from its config."""
    config = json.loads((folder / "config.json").read_text())
    hidden = int(config["hidden_size"])
    heads = int(config["num_attention_heads"])
    return hidden, int(config["intermediate_size"]), heads * int(config.get("head_dim") or hidden // heads)


def tensor_bytes(file: Path) -> int:
    """Return the bytes of the tensors in a safetensors file: its size without the header."""
    with file.open("rb") as stream:
        return file.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")


def preflight(place: Path, disk_bytes: int, memory_needed_bytes: int) -> None:
    """Refuse before anything is written when disk or memory will not suffice."""
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < disk_bytes:
        raise InputError(
            f"{human_bytes(disk_bytes)} of disk are needed, {human_bytes(free)} are free",
            where=str(place),
            remedy="free some space, or name another folder with --checkpoints",
        )
    if memory_bytes() < memory_needed_bytes:
        raise InputError(
            f"about {human_bytes(memory_needed_bytes)} of memory are needed, this machine has {human_bytes(memory_bytes())}",
            remedy="use a larger machine or a smaller model",
        )


def _finish(
    experiment: Experiment,
    name: str,
    part: Path,
    folder: Path,
    origin: tuple[str, SourceRecord, Path],
    made: Made,
    status: Status,
) -> Checkpoint:
    """Evaluate what was packed, hash every file and write the manifest last."""
    model_name, source, base = origin
    spec = experiment.quantize.evaluation
    tokens = ModelTokens(base)
    text = evaluation_windows(spec, tokens)
    original = load_dense(base)
    quantized = original if name == "none" else scheme(name).load(part)
    stats = window_stats(original, quantized, text.ids, lambda k: status.update(f"quality, window {k}/{spec.windows}"))
    status.update("quality, generation")
    if name == "none":
        answers = greedy_answers(original, [tokens.question(prompt) for prompt in PROMPTS], ANSWER_TOKENS)
        (part / ANSWERS_FILE).write_bytes(canonical_json(answers))
    answers = json.loads((base / ANSWERS_FILE).read_bytes())
    generation = agreement(same_choices(quantized, answers))
    weight_bytes = sum(file.stat().st_size for file in part.glob("*.safetensors"))
    parameters = sum(p.numel() for p in original.parameters())
    files = [file for file in sorted(part.iterdir()) if file.is_file()]
    manifest = Checkpoint(
        scheme=name,
        model_name=model_name,
        path=str(folder.resolve()),
        source=source,
        recipe=made.recipe,
        notes=made.notes,
        calibration=made.calibration,
        parameters=parameters,
        bits_per_weight=weight_bytes * 8 / parameters,
        weight_bytes=weight_bytes,
        total_bytes=sum(file.stat().st_size for file in files),
        memory_bytes=sum(tensor_bytes(file) for file in part.glob("*.safetensors")),
        quantize_seconds=made.seconds,
        peak_rss_bytes=made.peak_rss_bytes,
        tool_versions=installed(MODULES[name][1]),
        files={file.name: sha256_file(file) for file in files},
        quality=judge(stats, text.record, experiment.quantize.gate, generation),
        inputs=expected_inputs(experiment, name),
        created_utc=now_utc(),
    )
    manifest.write(part)
    return manifest
