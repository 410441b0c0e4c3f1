"""Make a checkpoint or reuse it: preflight, quantize, evaluate, manifest; one folder that is there whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import QuantizeSpec, is_shape
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import atomic_folder, disk_errors, sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint, Packed, SourceRecord, TextRecord
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.build_lock import claimed
from tokenhour.quantize.cache_key import Workshop, calibrated, expected_inputs, folder_of, log_of, packed_of
from tokenhour.quantize.data.text import Windows, calibration_windows, evaluation_windows
from tokenhour.quantize.library_output import PeakMemory, quiet
from tokenhour.quantize.manifest import finish
from tokenhour.quantize.memory_errors import memory_errors
from tokenhour.quantize.model.layer_rules import HEAD, group_notes, linear_layers, special, wants_head
from tokenhour.quantize.model.layer_rules import resolve as resolve_layers
from tokenhour.quantize.model.tokenizer import ModelTokens
from tokenhour.quantize.preflight.resources import (
    QUANTIZING_COPIES,
    decoder_shape,
    preflight,
    preflight_download,
)
from tokenhour.quantize.preflight.schemes import copies, look_at_model, look_at_settings, look_at_texts
from tokenhour.quantize.scheme_table import GROUPED, Job, Recipe, group_note, resolve_group_size, scheme
from tokenhour.quantize.scheme_table.w4a16_method import settle
from tokenhour.quantize.schemes.none import export
from tokenhour.quantize.source.resolve import ModelSource, download_of, resolve
from tokenhour.quantize.source.synthetic import make_shape


@dataclass(frozen=True, slots=True)
class Packing:
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


def make(experiment: Experiment, name: str, where: Workshop, also: Sequence[str] = ()) -> Checkpoint:
    """Make one scheme's checkpoint (and the original's, when that is not there yet) and return its manifest.

    `also` names schemes that are to follow: what one of them would be refused for is refused before anything is made.
    """
    names = (name, *(other for other in also if not Checkpoint.exists(folder_of(experiment, other, where))))
    look_at_settings(experiment, names)
    if is_shape(experiment.model.source):
        return _claimed(experiment, name, where, lambda: _make_shape(experiment, name, where))
    if name == "none":
        return _claimed(experiment, name, where, lambda: _make_original(experiment, names, where))
    # First: the original's files are among what names a quantized checkpoint's folder, and it may turn out to be there.
    original = current(experiment, "none", where) or _claimed(
        experiment, "none", where, lambda: _make_original(experiment, names, where)
    )
    return _claimed(experiment, name, where, lambda: _make_quantized(experiment, names, original, where))


def _claimed(experiment: Experiment, name: str, where: Workshop, made: Callable[[], Checkpoint]) -> Checkpoint:
    """Make a checkpoint while no other process does, or return what one has finished meanwhile."""
    with claimed(folder_of(experiment, name, where)):
        return current(experiment, name, where) or made()


def publish(checkpoint: Checkpoint, experiment: Experiment, results: Path) -> None:
    """Put the manifest into the run's folder; nothing is written when the same one stands there."""
    run = RunDir.of(results, experiment, checkpoint.scheme).open(experiment)
    copy = checkpoint.model_copy(update={"path": str(Path(checkpoint.path).resolve())})
    if Checkpoint.exists(run.path):
        if (run.path / Checkpoint.file_name).read_bytes() == copy.to_json():
            return
        run.supersede(Checkpoint.file_name)
    copy.write(run.path)


def _make_shape(experiment: Experiment, name: str, where: Workshop) -> Checkpoint:
    return make_shape(experiment, name, folder_of(experiment, name, where), expected_inputs(experiment, name, where))


def _make_original(experiment: Experiment, names: Sequence[str], where: Workshop) -> Checkpoint:
    """Make the original's checkpoint; `names` are the schemes that it is wanted for, itself perhaps among them."""
    if download := download_of(experiment.model):
        preflight_download(where.checkpoints, download, copies(names))
    source = resolve(experiment.model)
    trusted = experiment.model.trust_remote_code
    weights = sum(file.stat().st_size for file in source.files)
    if source.gguf is None:
        look_at_model(experiment, names, source.folder, weights)
        if (source.folder / "tokenizer.json").is_file():
            look_at_texts(experiment, names, source.folder)
    if source.parameters is None:
        preflight(where.checkpoints, weights, weights * copies(names))
    else:  # packed: bf16 is what it becomes
        preflight(where.checkpoints, 2 * source.parameters, 2 * source.parameters * QUANTIZING_COPIES)
    plan = Packing(
        title=f"original weights of {source.name}",
        model_name=source.name,
        pack=lambda part: export(source, part, trusted=trusted),
        source=lambda: source_record(experiment, source),
    )
    return _make(experiment, "none", where, plan, None)


def _make_quantized(experiment: Experiment, names: Sequence[str], original: Checkpoint, where: Workshop) -> Checkpoint:
    """Make the first of `names`; the others are only looked at."""
    name, spec, trusted = names[0], experiment.quantize, experiment.model.trust_remote_code
    base = Path(original.path)
    look_at_model(experiment, names, base, original.weight_bytes)
    preflight(where.checkpoints, original.weight_bytes, original.weight_bytes * QUANTIZING_COPIES)
    shape = decoder_shape(base)
    group = resolve_group_size(spec.group_size, shape.widths) if name in GROUPED else spec.group_size
    layers = resolve_layers(spec, linear_layers(base, trusted=trusted)) if special(spec) else {}
    settled, method_notes = settle(name, spec, base, layers, trusted=trusted)
    if not calibrated(name, spec):
        look_at_texts(experiment, names, base)
    text = _calibration(experiment, name, base)
    ids = text.ids if text else np.empty((0, spec.calibration.window_tokens), np.int64)
    plan = Packing(
        title=f"{name} of {original.model_name}",
        model_name=original.model_name,
        pack=lambda part: scheme(name).make(Job(base, part, settled, ids, group, trusted, layers)),
        source=lambda: original.source,
        calibration=text.record if text else None,
        notes=(
            *method_notes,
            *group_note(name, spec.group_size, group, shape.widths),
            *group_notes(layers, spec),
            *_head_note(name, settled),
        ),
    )
    return _make(experiment, name, where, plan, base)


def _calibration(experiment: Experiment, name: str, base: Path) -> Windows | None:
    spec = experiment.quantize
    if not calibrated(name, spec):
        return None
    tokens = ModelTokens(base, trusted=experiment.model.trust_remote_code)
    held_out = evaluation_windows(spec.evaluation, tokens).ids
    return calibration_windows(spec.calibration, spec.calibration.seed, held_out, tokens)


def _make(experiment: Experiment, name: str, where: Workshop, plan: Packing, base: Path | None) -> Checkpoint:
    """Pack (or take up what a run that ended early had packed), evaluate, and put the folder in its place at once."""
    folder, inputs = folder_of(experiment, name, where), expected_inputs(experiment, name, where)
    if folder.exists():
        raise InputError("something stands here that is not ours", where=str(folder), remedy="move it away or delete it")
    work, log = packed_of(folder), log_of(folder)
    with _clean_when_refused(work, log), quiet(plan.title, log) as status, memory_errors(plan.title):
        packed = _taken_up(work, inputs) or _pack(inputs, work, plan, status)
        with disk_errors(folder), _what_was_quantized_is_kept(name):
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


@contextlib.contextmanager
def _what_was_quantized_is_kept(name: str) -> Iterator[None]:
    """Turn what cannot be had any more, such as a text of a hub, into a run that failed: it may have taken hours so far."""
    try:
        yield
    except InputError as error:
        if name == "none":
            raise
        raise RunFailedError(
            f"{error.what}; the quantized weights are kept",
            where=error.where,
            remedy=f"{error.remedy}; the same command goes on from there",
        ) from error


def _pack(inputs: dict[str, str], work: Path, plan: Packing, status: Status) -> Packed:
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


def source_record(experiment: Experiment, source: ModelSource) -> SourceRecord:
    """Hash the files that the weights came from."""
    return SourceRecord(
        source=experiment.model.source,
        revision=source.revision,
        license=source.license,
        files={file.name: sha256_file(file) for file in source.files},
        note=source.note,
    )


def _head_note(name: str, spec: QuantizeSpec) -> tuple[str, ...]:
    learned = name == "w4a16" and spec.w4a16_method == "autoround"
    if not (name in {"gptq-int4", "gptq-int8"} or learned) or not wants_head(spec):
        return ()
    why = "AutoRound learns" if learned else "GPTQModel packs"
    return (f"{HEAD} stays in its original precision although nothing ignores it: {why} the decoder alone",)
