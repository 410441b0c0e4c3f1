"""Looks ahead at every scheme of a run before the first is made: one that is refused later would have cost the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import is_shape
from tokenhour.quantize.cache_key import calibrated
from tokenhour.quantize.data.text import calibration_windows, evaluation_windows
from tokenhour.quantize.evaluation.lm_eval_tasks import check_tasks
from tokenhour.quantize.model.layer_rules import linear_layers, special
from tokenhour.quantize.model.layer_rules import resolve as resolve_layers
from tokenhour.quantize.model.load import refuse_unusable
from tokenhour.quantize.model.tokenizer import ModelTokens
from tokenhour.quantize.preflight.resources import COPIES, QUANTIZING_COPIES, decoder_shape, preflight_device
from tokenhour.quantize.scheme_table import GROUPED, check, resolve_group_size
from tokenhour.quantize.scheme_table.w4a16_method import settle
from tokenhour.quantize.source.synthetic import refuse_without_weights


def look_at_settings(experiment: Experiment, names: Sequence[str]) -> None:
    """Raise InputError for a setting that one of the schemes `names` does not have."""
    for name in names:
        check(name, experiment.quantize)
        if is_shape(experiment.model.source):
            refuse_without_weights(name)
    if not is_shape(experiment.model.source):
        check_tasks(experiment.quantize.tasks)


def look_at_model(experiment: Experiment, names: Sequence[str], folder: Path, weight_bytes: int) -> None:
    """Raise InputError for rules, groups and calibrations that do not fit the model in `folder`; no weights are read."""
    spec, trusted = experiment.quantize, experiment.model.trust_remote_code
    refuse_unusable(folder, trusted=trusted)
    shape = decoder_shape(folder)
    if any(name in GROUPED for name in names):
        resolve_group_size(spec.group_size, shape.widths)
    layers = {}
    if special(spec) and any(name != "none" for name in names):
        layers = resolve_layers(spec, linear_layers(folder, trusted=trusted))
    learned = "w4a16" in names and settle("w4a16", spec, folder, layers, trusted=trusted)[0].w4a16_method == "autoround"
    if any(calibrated(name, spec) for name in names):
        preflight_device(shape, weight_bytes, spec, learned=learned)


def look_at_texts(experiment: Experiment, names: Sequence[str], folder: Path) -> None:
    """Raise InputError for a text that is too short; `folder` holds the tokenizer."""
    tokens = ModelTokens(folder, trusted=experiment.model.trust_remote_code)
    spec = experiment.quantize
    held_out = evaluation_windows(spec.evaluation, tokens).ids
    if any(calibrated(name, spec) for name in names):
        calibration_windows(spec.calibration, spec.calibration.seed, held_out, tokens)


def copies(names: Sequence[str]) -> int:
    """Return the memory that the most demanding of the schemes takes, in sizes of the original's bf16 files."""
    return QUANTIZING_COPIES if any(name != "none" for name in names) else COPIES
