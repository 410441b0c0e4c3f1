"""Evaluate what was packed and write its manifest, the last file of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.io.atomic_io import canonical_json, sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint, GenerationAgreement, Packed, Quality
from tokenhour.machine.hardware import installed
from tokenhour.machine.progress import Status
from tokenhour.machine.run_folder import now_utc
from tokenhour.quantize.data.prompts import ANSWER_TOKENS, ANSWERS_FILE, PROMPTS
from tokenhour.quantize.data.text import evaluation_windows
from tokenhour.quantize.evaluation.cached_states import STATES_FILE, recorded, stored
from tokenhour.quantize.evaluation.forward import greedy_answers, load_dense, same_choices, window_stats
from tokenhour.quantize.evaluation.lm_eval_tasks import scores
from tokenhour.quantize.evaluation.statistics import WindowStats, agreement, assemble
from tokenhour.quantize.library_output import time_left
from tokenhour.quantize.model.tokenizer import ModelTokens
from tokenhour.quantize.scheme_table import MODULES, scheme

Places = tuple[Path, Path, Path]
"""Where the packed files are now, where they will be, and the original's folder (the first one for the original itself)."""


def finish(experiment: Experiment, name: str, places: Places, packed: Packed, status: Status) -> Checkpoint:
    """Measure quality, hash what was added and write checkpoint.json into the work folder."""
    work, folder, base = places
    trusted = experiment.model.trust_remote_code
    status.update("quality, loading")
    original = load_dense(base, trusted=trusted)
    quantized = original if name == "none" else scheme(name).load(work, trusted=trusted)
    quality = quality_of(experiment, original, quantized, places, status)
    weights = sorted(work.glob("*.safetensors"))
    weight_bytes = sum(file.stat().st_size for file in weights)
    parameters = sum(p.numel() for p in original.parameters())
    files = [file for file in sorted(work.iterdir()) if file.is_file() and file.name != Packed.file_name]
    added = {file.name: sha256_file(file) for file in files if file.name not in packed.files}
    manifest = Checkpoint(
        scheme=name,
        model_name=packed.model_name,
        path=str(folder.resolve()),
        source=packed.source,
        recipe=packed.recipe,
        notes=packed.notes,
        calibration=packed.calibration,
        parameters=parameters,
        bits_per_weight=weight_bytes * 8 / parameters,
        weight_bytes=weight_bytes,
        total_bytes=sum(file.stat().st_size for file in files if file.name != STATES_FILE),
        memory_bytes=sum(tensor_bytes(file) for file in weights),
        quantize_seconds=packed.quantize_seconds,
        peak_rss_bytes=packed.peak_rss_bytes,
        tool_versions=installed(MODULES[name][1]),
        files={**packed.files, **added},
        quality=quality,
        inputs=packed.inputs,
        created_utc=now_utc(),
    )
    manifest.write(work)
    return manifest


def quality_of(experiment: Experiment, original: Any, quantized: Any, places: Places, status: Status) -> Quality:
    """Compare both models on the held-out windows, the fixed prompts and the tasks that the experiment names."""
    work, _, base = places
    spec = experiment.quantize
    tokens = ModelTokens(base, trusted=experiment.model.trust_remote_code)
    text = evaluation_windows(spec.evaluation, tokens)
    count = spec.evaluation.windows
    began = status.elapsed_s()

    def advance(k: int) -> None:
        left = time_left(k, count - k, status.elapsed_s() - began)
        status.update(f"quality, window {k}/{count}{left}")

    before = None if quantized is original else Checkpoint.read(base).quality
    # A hub's text may have changed behind the first window, which is all that is looked at of the states themselves.
    same_text = before is not None and before.evaluation.sha256 == text.record.sha256
    file = base / STATES_FILE if same_text else None
    stats = _on_windows(original, quantized, text.ids, work, file, advance)
    status.update("quality, generation")
    generation = _generation(original, quantized, base, work, tokens)
    status.update("quality, tasks")
    tasks = scores(spec.tasks, quantized, tokens, before.tasks if before else ())
    return assemble(stats, text.record, spec.gate, generation, tasks)


def _on_windows(
    original: Any,
    quantized: Any,
    ids: NDArray[np.int64],
    work: Path,
    known: Path | None,
    advance: Callable[[int], None],
) -> WindowStats:
    """Compare on the windows; `known` holds the original's states on them, which the original itself leaves in `work`."""
    if quantized is not original:
        return window_stats(original, quantized, ids, advance, stored(known, original, ids) if known else None)
    with recorded(original) as states:
        stats = window_stats(original, original, ids, advance)
    if len(states) == len(ids):
        np.save(work / STATES_FILE, np.stack(states), allow_pickle=False)
    return stats


def _generation(original: Any, quantized: Any, base: Path, work: Path, tokens: ModelTokens) -> GenerationAgreement:
    if quantized is original:
        answers = greedy_answers(original, [tokens.question(prompt) for prompt in PROMPTS], ANSWER_TOKENS)
        (work / ANSWERS_FILE).write_bytes(canonical_json(answers))
    return agreement(same_choices(quantized, json.loads((base / ANSWERS_FILE).read_bytes())))


def tensor_bytes(file: Path) -> int:
    """Return the bytes of the tensors in a safetensors file: its size without the header."""
    with file.open("rb") as stream:
        return file.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")
