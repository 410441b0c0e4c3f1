"""lm-eval is optional: refused clearly where it is missing, and its results are read with their errors."""

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tokenhour.contracts.config.model_quantize import TasksSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import TaskScore
from tokenhour.quantize.evaluation.lm_eval_tasks import check_tasks, read_scores, scores

# What lm-eval 0.4.13 returns, cut to what is read.
RESULTS = {
    "results": {
        "arc_easy": {"alias": "arc_easy", "acc,none": 0.5, "acc_stderr,none": 0.1, "acc_norm,none": 0.4, "sample_len": 20},
        "wiki": {"alias": "wiki", "word_perplexity,none": 30.0, "word_perplexity_stderr,none": "N/A"},
    },
    "n-samples": {"arc_easy": {"original": 2376, "effective": 20}, "wiki": {"original": 62, "effective": 5}},
}


def test_metrics_come_with_their_interval_and_the_originals_value() -> None:
    """Each task score shows its uncertainty and the original's score to compare with."""
    before = [TaskScore(task="arc_easy", metric="acc", value=Interval(value=0.6), original=None, documents=20)]
    found = {(s.task, s.metric): s for s in read_scores(RESULTS, before)}
    assert set(found) == {("arc_easy", "acc"), ("arc_easy", "acc_norm"), ("wiki", "word_perplexity")}
    accuracy = found["arc_easy", "acc"]
    assert (accuracy.original, accuracy.documents) == (0.6, 20)
    assert (accuracy.value.low, accuracy.value.high) == pytest.approx((0.304, 0.696))
    assert found["wiki", "word_perplexity"].value == Interval(value=30.0)


def test_nothing_is_imported_or_asked_without_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users without tasks need no lm-eval."""
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    check_tasks(TasksSpec())
    assert scores(TasksSpec(), None, None) == ()


def test_a_missing_extra_is_said_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in the remedy works in the reader's own environment."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="lm-eval is not installed") as caught:
        check_tasks(TasksSpec(names=("arc_easy",)))
    # An environment that uv made has no pip.
    assert f"uv pip install --python {sys.executable} --editable '" in caught.value.remedy
    assert "[lm-eval]'" in caught.value.remedy
    assert "-m pip" not in caught.value.remedy


def test_the_refusal_leaves_setuptools_importable_as_gptqmodel_needs_it() -> None:
    """Composing the remedy must not break a later import in the same process."""
    # A lookup of "pip" makes setuptools' finder step aside for the rest of the process.
    refused = (
        "import importlib.util\nfrom tokenhour.contracts.errors import InputError\n"
        "from tokenhour.contracts.config.model_quantize import TasksSpec\n"
        "from tokenhour.quantize.evaluation.lm_eval_tasks import check_tasks\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'lm_eval' else find(name)\n"
        "try: check_tasks(TasksSpec(names=('arc_easy',)))\nexcept InputError: import setuptools\nelse: raise SystemExit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", refused], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class Evaluator(types.ModuleType):
    """Stands in for the library: keeps what it was asked, and returns its results, or fails as it does offline."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__("lm_eval")
        self.asked: dict[str, Any] = {}
        self.failure = failure

    def simple_evaluate(self, **asked: Any) -> dict[str, Any]:
        """Note the request, then answer or fail."""
        self.asked = asked
        if self.failure:
            raise self.failure
        return RESULTS


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Evaluator:
    """Put a stand-in in lm-eval's place and return it."""
    evaluator, models, known = Evaluator(), types.ModuleType("h"), types.ModuleType("t")
    models.__dict__["HFLM"] = lambda pretrained, tokenizer, batch_size: (pretrained, tokenizer, batch_size)
    known.__dict__["TaskManager"] = lambda include_path: types.SimpleNamespace(
        all_tasks=["arc_easy", "wiki"], include_path=include_path
    )
    for name, module in {
        "lm_eval": evaluator,
        "lm_eval.models": types.ModuleType("m"),
        "lm_eval.models.huggingface": models,
        "lm_eval.tasks": known,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    return evaluator


def test_an_unknown_task_or_folder_is_named_before_anything_is_made(library: Evaluator, tmp_path: Path) -> None:
    """A typo in a task is found before hours of quantizing."""
    with pytest.raises(InputError, match="no task 'arc_eazy'") as caught:
        check_tasks(TasksSpec(names=("arc_eazy",)))
    assert "arc_easy" in caught.value.remedy
    with pytest.raises(InputError, match="no such folder"):
        check_tasks(TasksSpec(names=("arc_easy",), folder=str(tmp_path / "absent")))
    check_tasks(TasksSpec(names=("arc_easy", "wiki"), folder=str(tmp_path)))
    assert library.asked == {}


def test_the_library_is_asked_with_the_experiments_settings(library: Evaluator) -> None:
    """Tasks, limit and shots of the experiment reach lm-eval unchanged."""
    tokens = types.SimpleNamespace(library="tokenizer")
    found = scores(TasksSpec(names=("arc_easy", "wiki"), limit=20, shots=2), "model", tokens)
    assert len(found) == 3
    assert library.asked["model"] == ("model", "tokenizer", 1)
    assert (library.asked["tasks"], library.asked["limit"], library.asked["num_fewshot"]) == (["arc_easy", "wiki"], 20, 2)


class TransportError(Exception):
    """Stands in for httpx's, which is not of the operating system's kind."""


@pytest.mark.parametrize("failure", [ConnectionError("no route to the hub"), TransportError("no route to the hub")])
def test_data_that_cannot_be_had_is_a_run_that_failed_for_the_weights_are_packed_by_then(
    library: Evaluator, failure: Exception
) -> None:
    """A network error keeps the quantized weights and points to local task data."""
    library.failure = failure
    with pytest.raises(RunFailedError, match="no route to the hub; the weights are kept") as caught:
        scores(TasksSpec(names=("arc_easy",)), "model", types.SimpleNamespace(library=None))
    assert "quantize.tasks.folder" in caught.value.remedy


def test_a_mistake_within_a_task_is_not_called_a_network(library: Evaluator) -> None:
    """Errors in a task's own code are shown as they are."""
    library.failure = KeyError("answer")
    with pytest.raises(KeyError):
        scores(TasksSpec(names=("arc_easy",)), "model", types.SimpleNamespace(library=None))
