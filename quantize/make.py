"""Make a checkpoint or reuse it: preflight, quantize, evaluate, manifest; one folder that is there whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from contracts.checkpoint import Checkpoint, Packed, SourceRecord, TextRecord
from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.progress import Status
from contracts.quantize_spec import QuantizeSpec
from contracts.rundir import RunDir
from contracts.store import atomic_folder, disk_errors, sha256_file
from quantize.finish import finish
from quantize.inputs import Workshop, calibrated, expected_inputs, folder_of, log_of, packed_of
from quantize.layers import HEAD, group_notes, linear_layers, special, wants_head
from quantize.layers import resolve as resolve_layers
from quantize.loading import refuse_code
from quantize.preflight import COPIES, Shape, memory_errors, preflight, preflight_device, preflight_download, shape_of
from quantize.quiet import PeakMemory, quiet
from quantize.schemes import GROUPED, Job, Recipe, check, resolve_group_size, scheme
from quantize.schemes.original import export
from quantize.shapes import is_shape, make_shape
from quantize.source import Source, download_of, resolve
from quantize.tasks import check_tasks
from quantize.text import Windows, calibration_windows, evaluation_windows
from quantize.tokens import ModelTokens


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be packed, and how."""

    title: str
    model_name: str
    pack: Callable[[Path], Recipe]
    source: Callable[[], SourceRecord]
    calibration: TextRecord | None = None
    notes: tuple[str, ...] = ()


def current(experiment: Experiment, name: str, where: Workshop) -> Checkpoint | None:
    """Return the finished checkpoint when its inputs still match; InputError when its files were changed since.

    Its path is where it was found: the folder that it was made in may have moved.
    """
    folder = folder_of(experiment, name, where)
    if not Checkpoint.exists(folder):
        return None
    found = Checkpoint.read(folder)
    if found.inputs != expected_inputs(experiment, name, where):
        return None
    found.verify(folder)
    return found.model_copy(update={"path": str(folder.resolve())})


def make(experiment: Experiment, name: str, where: Workshop) -> Checkpoint:
    """Make one scheme's checkpoint (and the original's, when that is not there yet) and return its manifest."""
    check(name, experiment.quantize)
    if is_shape(experiment.model.source):
        return make_shape(experiment, name, folder_of(experiment, name, where), expected_inputs(experiment, name, where))
    check_tasks(experiment.quantize.tasks)
    if name == "none":
        return _make_original(experiment, where)
    original = current(experiment, "none", where) or _make_original(experiment, where)
    # With the original it may turn out that this one is there.
    return current(experiment, name, where) or _make_quantized(experiment, name, original, where)


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
    if download := download_of(experiment.model):
        preflight_download(where.checkpoints, download)
    source = resolve(experiment.model)
    trusted = experiment.model.trust_remote_code
    if source.gguf is None:
        refuse_code(source.folder, trusted=trusted)
        shape_of(source.folder)
        if (source.folder / "tokenizer.json").is_file():
            _check_texts(experiment, source.folder)
    weights = sum(file.stat().st_size for file in source.files)
    preflight(where.checkpoints, weights * (4 if source.gguf else 1), weights * (12 if source.gguf else COPIES))
    plan = Plan(
        title=f"original weights of {source.name}",
        model_name=source.name,
        pack=lambda part: export(source, part, trusted=trusted),
        source=lambda: source_record(experiment, source),
    )
    return _make(experiment, "none", where, plan, None)


def _make_quantized(experiment: Experiment, name: str, original: Checkpoint, where: Workshop) -> Checkpoint:
    base, spec = Path(original.path), experiment.quantize
    shape = shape_of(base)
    preflight(where.checkpoints, original.weight_bytes, original.weight_bytes * 5)
    preflight_device(shape, original.weight_bytes, spec)
    group = resolve_group_size(spec.group_size, shape.widths)
    trusted = experiment.model.trust_remote_code
    layers = resolve_layers(spec, linear_layers(base, trusted=trusted)) if special(spec) else {}
    text = _calibration(experiment, name, base)
    ids = text.ids if text else np.empty((0, spec.calibration.window_tokens), np.int64)
    plan = Plan(
        title=f"{name} of {original.model_name}",
        model_name=original.model_name,
        pack=lambda part: scheme(name).make(Job(base, part, spec, ids, group, trusted, layers)),
        source=lambda: original.source,
        calibration=text.record if text else None,
        notes=(*_group_note(name, spec.group_size, group, shape), *group_notes(layers, spec), *_head_note(name, spec)),
    )
    return _make(experiment, name, where, plan, base)


def _check_texts(experiment: Experiment, folder: Path) -> None:
    """Refuse a text that is too short before anything is made; `folder` holds the tokenizer."""
    tokens = ModelTokens(folder, trusted=experiment.model.trust_remote_code)
    spec = experiment.quantize
    held_out = evaluation_windows(spec.evaluation, tokens).ids
    if any(calibrated(name, spec) for name in experiment.schemes):
        calibration_windows(spec.calibration, spec.calibration.seed, held_out, tokens)


def _calibration(experiment: Experiment, name: str, base: Path) -> Windows | None:
    spec = experiment.quantize
    if not calibrated(name, spec):
        return None
    tokens = ModelTokens(base, trusted=experiment.model.trust_remote_code)
    held_out = evaluation_windows(spec.evaluation, tokens).ids
    return calibration_windows(spec.calibration, spec.calibration.seed, held_out, tokens)


def _make(experiment: Experiment, name: str, where: Workshop, plan: Plan, base: Path | None) -> Checkpoint:
    """Pack (or take up what a run that ended early had packed), evaluate, and put the folder in its place at once."""
    folder, inputs = folder_of(experiment, name, where), expected_inputs(experiment, name, where)
    if folder.exists():
        raise InputError("something stands here that is not ours", where=str(folder), remedy="move it away or delete it")
    work, log = packed_of(folder), log_of(folder)
    with _clean_when_refused(work, log), quiet(plan.title, log) as status, memory_errors(plan.title):
        packed = _taken_up(work, inputs) or _pack(inputs, work, plan, status)
        with disk_errors(folder):
            manifest = finish(experiment, name, (work, folder, base or work), packed, status)
            work.rename(folder)
            (folder / Packed.file_name).unlink()
    return manifest


@contextlib.contextmanager
def _clean_when_refused(*leftovers: Path) -> Iterator[None]:
    """Leave nothing of what only bad input stopped: the same input would be refused again."""
    try:
        yield
    except InputError:
        for place in leftovers:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        raise


def _pack(inputs: dict[str, str], work: Path, plan: Plan, status: Status) -> Packed:
    with atomic_folder(work) as part:
        memory = PeakMemory()
        recipe = plan.pack(part)
        seconds, peak = status.elapsed_s(), memory.peak_bytes()
        status.update("hashing")
        packed = Packed(
            recipe=recipe,
            notes=plan.notes,
            calibration=plan.calibration,
            model_name=plan.model_name,
            source=plan.source(),
            quantize_seconds=seconds,
            peak_rss_bytes=peak,
            files={file.name: sha256_file(file) for file in sorted(part.iterdir()) if file.is_file()},
            inputs=inputs,
        )
        packed.write(part)
    return packed


def _taken_up(work: Path, inputs: dict[str, str]) -> Packed | None:
    """Return what an earlier run had packed when every file is as it left it; else clear the place."""
    if not work.exists():
        return None
    if Packed.exists(work):
        found = Packed.read(work)
        if found.inputs == inputs and all(
            (work / name).is_file() and sha256_file(work / name) == digest for name, digest in found.files.items()
        ):
            (work / Checkpoint.file_name).unlink(missing_ok=True)
            return found
    shutil.rmtree(work)
    return None


def source_record(experiment: Experiment, source: Source) -> SourceRecord:
    """Hash the files that the weights came from."""
    return SourceRecord(
        source=experiment.model.source,
        revision=source.revision,
        license=source.license,
        files={file.name: sha256_file(file) for file in source.files},
        note=source.note,
    )


def _group_note(name: str, wanted: int, group: int, shape: Shape) -> tuple[str, ...]:
    if name not in GROUPED or group == wanted:
        return ()
    return (f"group size {group} instead of {wanted}, which does not divide the widths {sorted(set(shape.widths))}",)


def _head_note(name: str, spec: QuantizeSpec) -> tuple[str, ...]:
    if not name.startswith("gptq-") or not wants_head(spec):
        return ()
    return (f"{HEAD} stays in its original precision although nothing ignores it: GPTQModel packs the decoder alone",)
