"""CI holds a proof against the reference of its GPU; what could not be compared is said, and never looks like a pass."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.breakeven.summaries import summary
from tests.frontdoor.gpu_benchmark.test_experiments import H100
from tests.records import WHEN
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.frontdoor.gpu_benchmark import ci_gate
from tokenhour.frontdoor.gpu_benchmark.ci_gate import gate, slug

NAME = "proof-cuda-x-quick"
Compared = tuple[list[tuple[str, ...]], dict[str, int]]
RUNS = (f"{NAME}-chat-none", f"{NAME}-chat-fp8")


def write(folder: Path, name: str = NAME, runs: Sequence[str] = RUNS) -> Path:
    """Write a complete proof and its runs into a folder."""
    Proof(
        name=name, model="shape:llama-3.1-8b", weights="dummy", device="cuda", accelerator=H100,
        quick=name.endswith("-quick"), budget_s=480, spent_s=400, steps=(), loaded=(), published=(), runs=runs,
        complete=True, inputs={}, created_utc=WHEN,
    ).write(folder / name)  # fmt: skip
    for run in runs:
        (folder / run).mkdir(parents=True)
        summary(run=run).write(folder / run)
    return folder


def reference(results: Path, *runs: str, gpu: str = H100.name, name: str = NAME) -> Path:
    """Write a committed reference of a GPU."""
    return write(results / "reference" / slug(gpu), name, runs)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Write the proof that is held against a reference."""
    return write(tmp_path)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job's page."""
    file = tmp_path / "page.md"
    file.write_text("before\n")
    monkeypatch.setenv(ci_gate.PAGE_ENV, str(file))
    return file


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    """Comparisons that were made; their exit code by run."""
    asked: list[tuple[str, ...]] = []
    codes: dict[str, int] = {}

    def compare(arguments: tuple[str, ...]) -> int:
        asked.append(arguments)
        return codes.get(arguments[-1].rsplit("/", 1)[-1], 0)

    monkeypatch.setattr(ci_gate, "run_step", compare)
    return asked, codes


def test_a_gpus_folder_is_named_by_its_name() -> None:
    """The folder of a reference follows from the GPU's name alone."""
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_no_reference_is_said_and_no_failure(
    results: Path, page: Path, compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU without a reference does not fail CI, but the job's page says nothing was compared."""
    reference(results, *RUNS, gpu="NVIDIA L4")
    gate(results)
    for said in (capsys.readouterr().out, page.read_text()):
        assert f"- {NAME}: no reference of it is committed below" in said
        assert "nothing was compared" in said
    assert compared[0] == []


def test_runs_that_are_no_worse_pass_and_the_page_says_so(results: Path, page: Path, compared: Compared) -> None:
    """CI passes when no run is worse than its reference, and the page counts them."""
    kept = reference(results, *RUNS)
    gate(results)
    assert compared[0] == [("compare", "--gate", str(kept / run), str(results / run)) for run in RUNS]
    assert page.read_text().startswith("before\n## Held against the committed reference\n")
    assert f"- {NAME}: 2 of 2 runs are no worse than their reference\n" in page.read_text()


@pytest.mark.parametrize("code", [1, 2])
def test_a_regression_or_an_impossible_comparison_fails(results: Path, page: Path, compared: Compared, code: int) -> None:
    """CI fails on a regression, and also where the comparison itself was impossible."""
    reference(results, *RUNS)
    compared[1][RUNS[1]] = code
    with pytest.raises(RunFailedError, match=NAME):
        gate(results)
    assert f"**regressed, or not comparable**: {RUNS[1]}" in page.read_text()
    assert "1 of 2 runs" in page.read_text()


def test_a_run_that_the_reference_has_and_the_proof_lacks_fails(results: Path, page: Path, compared: Compared) -> None:
    """CI fails when a run of the reference is missing, so a precision cannot drop out unseen."""
    reference(results, *RUNS, f"{NAME}-chat-w8a8")
    with pytest.raises(RunFailedError):
        gate(results)
    assert f"**the reference has runs that this proof lacks**: {NAME}-chat-w8a8" in page.read_text()
    assert len(compared[0]) == 2


def test_a_run_without_a_counterpart_is_listed(results: Path, page: Path, compared: Compared) -> None:
    """A new run without a reference passes, but the page lists it as not compared."""
    reference(results, RUNS[0])
    gate(results)
    assert f"without a counterpart in the reference, held against nothing: {RUNS[1]}" in page.read_text()
    assert len(compared[0]) == 1


def test_a_reference_of_which_no_run_is_here_is_no_pass(results: Path, page: Path) -> None:
    """Comparing nothing at all fails, so that it never looks like a pass."""
    reference(results)
    with pytest.raises(RunFailedError):
        gate(results)
    assert "0 of 0 runs" in page.read_text()


@pytest.mark.parametrize(("here", "kept"), [(NAME, "proof-cuda-x"), ("proof-cuda-x", NAME)])
def test_a_reference_of_the_other_length_alone_fails(tmp_path: Path, page: Path, here: str, kept: str) -> None:
    """A quick proof is never held against a full one, and the page names the only reference there is."""
    write(tmp_path / "results", here, (f"{here}-chat-none",))
    reference(tmp_path / "results", f"{kept}-chat-none", name=kept)
    with pytest.raises(RunFailedError):
        gate(tmp_path / "results")
    assert f"**the only reference of this model and GPU is {kept}**" in page.read_text()


def test_another_models_reference_is_none_of_this_one(results: Path, page: Path) -> None:
    """The reference of another model is ignored."""
    reference(results, "proof-cuda-y-quick-chat-none", name="proof-cuda-y-quick")
    gate(results)
    assert "no reference of it" in page.read_text()


def test_without_a_proof_there_is_nothing_to_hold(tmp_path: Path) -> None:
    """The gate rejects a results folder that holds no proof."""
    with pytest.raises(InputError, match="no proof"):
        gate(tmp_path)
