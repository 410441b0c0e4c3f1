"""Tasks of EleutherAI's lm-eval (an optional extra), asked of the weights that were packed."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tokenhour.contracts.config.model_quantize import TasksSpec
from tokenhour.contracts.errors import InputError, RunFailedError, nearest
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import TaskScore
from tokenhour.quantize.model.tokenizer import ModelTokens
from tokenhour.quantize.source.hub import is_network

_FIELD = "quantize.tasks"
_SEED = 0


def check_tasks(spec: TasksSpec) -> None:
    """Raise InputError, before anything is made, when lm-eval is not installed or does not know a task."""
    if not spec.names:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            "lm-eval is not installed",
            where=_FIELD,
            remedy=f"{_installer()} --editable '{Path(__file__).resolve().parents[2]}[lm-eval]', or leave the tasks out",
        )
    if spec.folder is not None and not Path(spec.folder).is_dir():
        raise InputError("no such folder", where=f"{_FIELD}.folder: {spec.folder}", remedy="check the path")
    known = _manager(spec).all_tasks
    for name in spec.names:
        if name not in known:
            raise InputError(f"lm-eval has no task {name!r}", where=f"{_FIELD}.names", remedy=nearest(name, known))


def _installer() -> str:
    """Return the command that installs into this environment: one that uv made has no pip."""
    # Not find_spec: looking up "pip" makes setuptools' finder step aside, and GPTQModel cannot be imported afterwards.
    if any(metadata.distributions(name="pip")):
        return f"{sys.executable} -m pip install"
    # Where setup.sh puts uv when it is not on PATH.
    return f"{'uv' if shutil.which('uv') else '.uv/bin/uv'} pip install --python {sys.executable}"


def _manager(spec: TasksSpec) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=spec.folder)


def scores(spec: TasksSpec, model: Any, tokens: ModelTokens, original: Sequence[TaskScore] = ()) -> tuple[TaskScore, ...]:
    """Ask the tasks of `model`; `original` holds the original's scores, to set beside. Nothing is asked without names.

    Raises RunFailedError when a task's data cannot be had: the weights are packed by then, and kept.
    """
    if not spec.names:
        return ()
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    try:
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokens.library, batch_size=1),
            tasks=list(spec.names),
            num_fewshot=spec.shots,
            limit=spec.limit,
            task_manager=_manager(spec),
            random_seed=_SEED,
            numpy_random_seed=_SEED,
            torch_random_seed=_SEED,
            fewshot_random_seed=_SEED,
        )
    except Exception as error:  # the hub's client and datasets have transport errors of their own
        if not is_network(error):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunFailedError(
            f"a task's data cannot be had: {said}; the weights are kept",
            where=_FIELD,
            remedy="connect to the hub, or bring tasks with local data in quantize.tasks.folder; the same command goes on",
        ) from error
    return read_scores(found, original)


def read_scores(found: dict[str, Any], original: Sequence[TaskScore] = ()) -> tuple[TaskScore, ...]:
    """Turn lm-eval's results into scores; "acc,none" beside "acc_stderr,none" is a metric and its standard error."""
    before = {(score.task, score.metric): score.value.value for score in original}
    documents = found.get("n-samples", {})
    return tuple(
        TaskScore(
            task=task,
            metric=metric,
            value=_interval(value, values.get(f"{metric}_stderr,{variant}")),
            original=before.get((task, metric)),
            documents=int(documents.get(task, {}).get("effective", 0)),
        )
        for task, values in sorted(found["results"].items())
        for metric, variant, value in _metrics(values)
    )


def _metrics(values: dict[str, Any]) -> list[tuple[str, str, float]]:
    """List (metric, filter, value); the standard errors and the task's alias are not metrics."""
    named = [(*key.partition(",")[::2], value) for key, value in sorted(values.items()) if "," in key]
    return [(m, f, float(v)) for m, f, v in named if not m.endswith("_stderr") and isinstance(v, int | float)]


def _interval(value: float, error: Any) -> Interval:
    if not isinstance(error, int | float):
        return Interval(value=value)
    return Interval(value=value, low=value - 1.96 * error, high=value + 1.96 * error)
