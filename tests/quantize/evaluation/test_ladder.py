"""The smallest scheme that passes the gate and can be served is found, shown and recorded."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.quantize.tiny import experiment, tiny_model
from tests.records import checkpoint
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.model_quantize import QuantizeSpec
from tokenhour.contracts.errors import InputError, exit_code_of
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import Checkpoint, Quality, TextRecord
from tokenhour.contracts.standalone.scheme_ladder import Ladder
from tokenhour.quantize import scheme_table
from tokenhour.quantize.cli import cli
from tokenhour.quantize.evaluation.ladder import climb, draw, needs_gate, table

pytestmark = pytest.mark.system

TEXT = TextRecord(source="t", license="l", windows=3, window_tokens=4, sha256="0")


def made(folder: Path, scheme: str, size: int, kl: float) -> Checkpoint:
    """Write the manifest of a scheme with this size and divergence."""
    quality = Quality(
        evaluation=TEXT,
        perplexity=Interval(value=10 + kl, low=9, high=12),
        original_perplexity=10,
        perplexity_ratio=1 + kl,
        mean_kl_divergence=Interval(value=kl, low=kl * 0.9, high=kl * 1.1),
        top1_agreement=Interval(value=1 - kl, low=0.5, high=1),
    )
    place = folder / scheme
    place.mkdir()
    found = checkpoint(scheme=scheme, path=str(place), weight_bytes=size, quality=quality)
    found.write(place)
    return found


def gated(tmp_path: Path, **gate: Any) -> Experiment:
    """Make an experiment with these bounds as its quality gate."""
    return experiment(tiny_model(tmp_path / "m"), tmp_path / "text.txt", gate=gate)


def rungs(tmp_path: Path) -> list[Checkpoint]:
    """Make checkpoints of five schemes with realistic sizes and losses."""
    sizes = {
        "none": (269, 0.0),
        "w8a8": (163, 0.014),
        "gptq-int8": (169, 0.002),
        "gptq-int4": (115, 0.2),
        "bnb-nf4": (117, 0.1),
    }
    return [made(tmp_path, scheme, size * 10**6, kl) for scheme, (size, kl) in sizes.items()]


@pytest.mark.parametrize(
    ("gate", "device", "chosen"),
    [
        ({"max_mean_kl_divergence": 0.3}, "cpu", "gptq-int4"),
        ({"max_mean_kl_divergence": 0.15}, "cpu", "bnb-nf4"),
        ({"max_mean_kl_divergence": 0.05}, "cpu", "w8a8"),
        ({"max_mean_kl_divergence": 0.01}, "cuda", "gptq-int8"),
        ({"max_mean_kl_divergence": 0.01}, "cpu", "none"),
        ({"max_mean_kl_divergence": 0.3, "max_perplexity_ratio": 1.05}, "cpu", "w8a8"),
    ],
)
@pytest.mark.usefixtures("modern_cpu")
def test_the_smallest_that_passes_and_can_be_served_is_chosen(
    tmp_path: Path, gate: dict[str, Any], device: str, chosen: str
) -> None:
    """The ladder recommends the cheapest precision that is good enough and runs on this device."""
    found = climb(gated(tmp_path, **gate), rungs(tmp_path), device)
    assert found.chosen == chosen
    assert [r.weight_bytes for r in found.rungs] == sorted(r.weight_bytes for r in found.rungs)
    assert table(found).count("<- smallest that passes") == 1


def test_what_has_no_kernel_here_is_shown_and_not_chosen(tmp_path: Path) -> None:
    """A scheme that the device cannot run stays in the table with the reason."""
    found = climb(gated(tmp_path, max_mean_kl_divergence=0.01), rungs(tmp_path)[2:3], "cpu")
    assert found.chosen is None
    assert "no kernel on cpu" in table(found)


@pytest.mark.usefixtures("modern_cpu")
def test_what_serving_would_refuse_is_not_chosen(tmp_path: Path) -> None:
    """8-bit layers within INT4 have no kernel on a CPU, INT8 activations none on an old GPU."""
    made_here = rungs(tmp_path)
    spec = gated(tmp_path, max_mean_kl_divergence=0.3)
    rules = QuantizeSpec.model_validate({"overrides": [{"match": "mlp", "bits": 8}], "gate": spec.quantize.gate})
    mixed = spec.model_copy(update={"quantize": rules})
    assert climb(mixed, made_here, "cpu").chosen == "bnb-nf4"
    assert climb(mixed, made_here, "cuda", (7, 0)).chosen == "gptq-int4"
    served = {r.scheme: r.served for r in climb(spec, made_here, "cuda", (7, 0)).rungs}
    assert [name for name, yes in served.items() if not yes] == ["w8a8"]


def test_a_figure_of_one_window_is_shown_without_an_interval(tmp_path: Path) -> None:
    """Table and plot work for figures without an interval."""
    (one,) = rungs(tmp_path)[:1]
    quality = one.quality.model_copy(update={"mean_kl_divergence": Interval(value=0.25)})
    found = climb(gated(tmp_path, max_mean_kl_divergence=0.3), [one.model_copy(update={"quality": quality})], "cpu")
    assert "| 0.2500 |" in table(found)
    assert draw(found, "svg")


def test_the_plot_names_every_scheme_and_the_gate_and_is_the_same_again(tmp_path: Path) -> None:
    """The plot can be read by itself, and drawing it again changes no byte."""
    found = climb(gated(tmp_path, max_mean_kl_divergence=0.05), rungs(tmp_path), "cpu")
    drawn = draw(found, "svg")
    assert drawn == draw(found, "svg")
    # Letters are drawn as paths, with the text beside them in a comment.
    for rung in found.rungs:
        assert f"<!-- {rung.scheme}".encode() in drawn
    assert b"<!-- w8a8 (smallest that passes)" in drawn
    assert b"<!-- gate: 0.05" in drawn
    assert draw(found, "png").startswith(b"\x89PNG")


def test_a_gate_without_bounds_is_refused(tmp_path: Path) -> None:
    """Without a bound every scheme would pass and the answer would mean nothing."""
    with pytest.raises(InputError, match="sets no bound"):
        needs_gate(gated(tmp_path))


def test_the_command_makes_what_is_missing_prints_the_table_and_keeps_record_and_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One command answers which precision to serve; without a passing scheme it exits with 1."""
    monkeypatch.setitem(scheme_table.MODULES, "gptq-int4", ("tests.quantize.rounding", ("torch",)))
    data = gated(tmp_path, max_mean_kl_divergence=1e-9).model_dump(mode="json")
    places = ["--results", str(tmp_path / "results"), "--checkpoints", str(tmp_path / "checkpoints")]

    def climb_again() -> int:
        (tmp_path / "exp.yaml").write_text(json.dumps(data))
        return exit_code_of(lambda: cli.main(["ladder", str(tmp_path / "exp.yaml"), *places], standalone_mode=False))

    assert climb_again() == 0
    assert "smallest that passes: none" in capfd.readouterr().out
    folder = tmp_path / "results/tiny"
    found = Ladder.read(folder)
    assert {r.scheme: r.quality_gate for r in found.rungs} == {"none": "PASS", "gptq-int4": "FAIL"}
    assert set(found.inputs) == {"checkpoint none", "checkpoint gptq-int4"}
    assert (folder / "plots/ladder.png").stat().st_size > 5000
    data["schemes"] = ["gptq-int4"]
    assert climb_again() == 1
    assert "no scheme passes" in capfd.readouterr().err
    assert Ladder.read(folder).chosen is None
    assert list(folder.glob("superseded/*/ladder.json"))
