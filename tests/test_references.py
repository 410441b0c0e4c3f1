"""The records of real GPUs that are kept: readable, and what is VALID comes out of its raw records again."""

import shutil
from pathlib import Path

import pytest

from tokenhour.bench.summary.finalize import derive
from tokenhour.contracts.config.model_quantize import SCHEMES
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.engine_quality import EngineQuality
from tokenhour.contracts.records.request import REQUESTS_FILE
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.machine.run_folder import RunDir
from tokenhour.quantize.engine_check.tolerance import bounds, told_apart

KEPT = Path(__file__).parents[1] / "results/reference"
FORMATS = sorted(file.parent for file in KEPT.glob("*/*/*/engine_quality.json"))
RUNS = sorted(file.parent for file in KEPT.glob("*/*/summary.json"))


FIGURES = {"peak", "at_slo", "load_curve", "energy_j_per_output_token", "mean_output_tokens", "measuring_s"}


def leaves(found: object, at: str = "") -> dict[str, float]:
    """Every number of a record by its place; other versions of NumPy add up to another last digit."""
    if isinstance(found, dict):
        parts = list(found.items())
    elif isinstance(found, list | tuple):
        parts = list(enumerate(found))
    else:
        return {at: found} if isinstance(found, int | float) else {}
    return {place: value for key, part in parts for place, value in leaves(part, f"{at}.{key}").items()}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_kept_run_says_on_what_it_was_measured_and_whether_it_is_valid(run: Path) -> None:
    """Reference figures come from a GPU and carry their verdict."""
    summary = Summary.read(run)
    assert summary.accelerator.kind == "cuda"
    assert (summary.validity == "VALID") == (not summary.reasons)


@pytest.mark.parametrize("run", [run for run in RUNS if (run / REQUESTS_FILE).is_file()], ids=lambda run: run.name)
def test_the_raw_records_give_the_same_figures_again(run: Path, tmp_path: Path) -> None:
    """Today's code derives the published figures from the raw records, so that they can be checked."""
    kept = Summary.read(run)
    shutil.copytree(run, tmp_path / run.name)
    found = derive(RunDir(tmp_path / run.name))
    assert (found.validity, found.reasons) == (kept.validity, kept.reasons)
    assert (found.highest_passing_rps, found.lowest_failing_rps) == (kept.highest_passing_rps, kept.lowest_failing_rps)
    assert leaves(found.model_dump(include=FIGURES)) == pytest.approx(leaves(kept.model_dump(include=FIGURES)), rel=1e-9)


@pytest.mark.parametrize("run", FORMATS, ids=lambda run: run.name)
def test_a_kept_comparison_is_of_a_gpus_kernels_and_agrees(run: Path) -> None:
    """Each kept quality check is within today's bounds, which still tell the format from the original."""
    found, checkpoint, server = EngineQuality.read(run), Checkpoint.read(run), Server.read(run)
    assert server.accelerator.kind == "cuda"
    assert found.scheme == checkpoint.scheme == server.scheme
    assert (found.quantization is None) == (found.scheme == "none")
    quality, original = checkpoint.quality, Checkpoint.read(run.parent / "none").quality
    assert quality is not None
    assert original is not None
    allowed = bounds(quality, original, found.windows * (found.window_tokens - 1))
    assert found.loss is not None
    assert found.top_kl_divergence is not None
    assert allowed.hold(found.loss.value, found.top1_agreement.value, found.top_kl_divergence.value)
    assert found.agrees
    assert told_apart(allowed) == (found.scheme not in {"none", "gptq-int8"})


def test_every_format_but_one_was_compared() -> None:
    """A new format needs a comparison on a GPU, or a word in the docs."""
    schemes = {EngineQuality.read(run).scheme for run in FORMATS}
    assert set(SCHEMES) - schemes == {"gptq-int4"}, "docs/gpu.md says which is missing"


def test_there_is_one_that_can_be_derived_again() -> None:
    """Without raw records the test above would check nothing."""
    assert any((run / REQUESTS_FILE).is_file() for run in RUNS)
