"""CI holds a proof against the reference of the same GPU, and says plainly where there is none."""

import pytest

from contracts.errors import InputError, RunFailedError
from contracts.proof import Proof
from frontdoor import proof_gate
from frontdoor.proof_gate import gate, pairs, slug
from tests.breakeven.summaries import summary
from tests.frontdoor.test_proof import H100
from tests.records import WHEN


@pytest.fixture
def results(tmp_path):
    runs = ("proof-cuda-x-quick-chat-none", "proof-cuda-x-quick-chat-fp8")
    Proof(
        name="proof-cuda-x-quick", model="shape:llama-3.1-8b", weights="dummy", device="cuda", accelerator=H100, quick=True,
        budget_s=480, spent_s=400, steps=(), loaded=(), published=(), runs=runs, complete=True, inputs={}, created_utc=WHEN,
    ).write(tmp_path / "proof-cuda-x-quick")  # fmt: skip
    for run in runs:
        (tmp_path / run).mkdir()
        summary(run=run).write(tmp_path / run)
    return tmp_path


def reference(results, gpu=H100.name):
    kept = results / "reference" / slug(gpu) / "proof-cuda-x-quick-chat-none"
    kept.mkdir(parents=True)
    summary(run=kept.name).write(kept)
    return kept


def test_a_gpus_folder_is_named_by_its_name():
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_no_reference_is_said_and_no_failure(results, capsys):
    reference(results, "NVIDIA L4")
    gate(results)
    assert "no reference of this GPU" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "fails"), [(0, False), (1, True), (2, True)])
def test_a_regression_or_an_impossible_comparison_fails(results, monkeypatch, code, fails):
    kept = reference(results)
    assert list(pairs(results)) == [(kept, results / kept.name)]
    asked = []

    def compare(arguments):
        asked.append(arguments)
        return code

    monkeypatch.setattr(proof_gate, "run_step", compare)
    if fails:
        with pytest.raises(RunFailedError, match="proof-cuda-x-quick-chat-none"):
            gate(results)
    else:
        gate(results)
    assert asked == [("compare", "--gate", str(kept), str(results / kept.name))]


def test_without_a_proof_there_is_nothing_to_hold(tmp_path):
    with pytest.raises(InputError, match="no proof"):
        gate(tmp_path)
