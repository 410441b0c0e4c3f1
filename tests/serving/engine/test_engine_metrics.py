"""How busy the engines are, over all replicas and the looks that were taken."""

from collections.abc import Callable

import pytest

from tokenhour.serving.engine import engine_metrics
from tokenhour.serving.engine.engine_metrics import ANSWERED, RUNNING, WAITING, Activity
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.state import EngineLoad

Told = Callable[..., None]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Say what the two engines answer; without a word neither does."""
    answers: dict[str, dict[str, float]] = {}
    monkeypatch.setattr(engine_metrics, "_PERIOD_S", 0.0)
    monkeypatch.setattr(engine_metrics, "read_metrics", lambda url, _: answers.get(url, {}))

    def told(*each: tuple[float, float, float]) -> None:
        for number, values in enumerate(each):
            answers[f"http://127.0.0.1:{number}"] = dict(zip((RUNNING, WAITING, ANSWERED), values, strict=True))

    return told


def activity() -> Activity:
    """Watch two engines of eight sequences each."""
    return Activity([Launch((), {}, f"http://127.0.0.1:{number}", "toy") for number in (0, 1)], 8)


def test_load_is_that_of_all_replicas_at_once(tell: Told) -> None:
    """The peak is what ran at one moment, summed over the replicas, and the mean is over the looks."""
    seen = activity()
    for first, second in (((3, 0, 1), (1, 2, 1)), ((0, 0, 4), (5, 0, 4))):
        tell(first, second)
        seen.look()
    load = seen.load()
    assert (load.mean_running, load.peak_running, load.peak_waiting, load.capacity) == (4.5, 5, 2, 16)


def test_the_readiness_probes_own_answer_is_no_request(tell: Told) -> None:
    """A server that nobody has asked since its start counts as never asked, until another answer is told."""
    seen = activity()
    tell((0, 0, 1), (0, 0, 1))
    seen.look()
    seen.look()
    assert seen.last_request_utc is None
    tell((0, 0, 1), (0, 0, 2))
    seen.look()
    assert seen.last_request_utc is not None


@pytest.mark.usefixtures("tell")
def test_engines_that_do_not_answer_have_no_load() -> None:
    """A look that brought nothing is no sample of an idle engine."""
    seen = activity()
    seen.look()
    assert seen.load() == EngineLoad(capacity=16)
