"""The load of an experiment: what was measured before a rule stays readable."""

from pathlib import Path

from tests.contracts.config.test_experiment import GOOD, load
from tokenhour.contracts.config.experiment import Experiment


def test_a_record_of_uniform_lengths_that_would_be_refused_today_stays_readable(tmp_path: Path) -> None:
    """Stricter rules for new files do not lock users out of their older runs."""
    uniform = "prompt: {distribution: uniform, mean_tokens: 64, min_tokens: 32, max_tokens: 96}"
    file = load(tmp_path, GOOD.replace("prompt: {mean_tokens: 64}", uniform)).write(tmp_path)
    file.write_text(file.read_text().replace('"max_tokens": 96', '"max_tokens": 400'))
    assert Experiment.read(tmp_path).bench.workload.prompt.max_tokens == 400
