"""What a summary says beside its verdict: what went unchecked, and how sure a short window is."""

from tests.bench.rows import row
from tests.bench.summary.conftest import ROWS, point, samples, summary, with_cached
from tokenhour.contracts.records.probe import EngineCounters


def test_a_failed_request_leaves_the_counters_uncompared_and_the_summary_says_so() -> None:
    """Unknown tokens of failed requests make no disagreement, but the reader learns that nothing was checked."""
    failed = [*ROWS[1:], row(0.0, outcome="timeout")]
    assert point(failed).token_disagreement is None
    said = "no probe that bears the result could be held against the engine's token counters"
    assert any(w.startswith(said) for w in summary(failed).warnings)
    assert not any(w.startswith(said) for w in summary().warnings)


def test_an_endpoint_without_counters_is_noted_once_by_its_own_record() -> None:
    """The summary does not repeat a warning that the endpoint's record gives."""
    found = summary(before=EngineCounters(), after=EngineCounters(), engine_counters=False, notes=("no engine metrics",))
    assert not any("token counters" in w for w in found.warnings)


def test_a_hit_rate_that_nobody_tells_is_said_to_be_unchecked() -> None:
    """A cache that is off or reported needs no warning; one that nobody reports does."""
    unchecked = "neither engine counters nor usage say what the prefix cache found: its hit rate was not checked"
    assert unchecked in summary().warnings
    assert unchecked not in summary(with_cached(0)).warnings
    off = {name: EngineCounters(prefix_queries=0, prefix_hits=0) for name in ("before", "after")}
    assert unchecked not in summary(**off).warnings


def test_a_generator_whose_cpu_nobody_measured_is_noted() -> None:
    """Without CPU samples over the window its saturation would go unnoticed."""
    said = "the CPU use of the load generator was not measured in probe 0: its saturation would not be noticed"
    used = samples("generator", "cpu_s_total", [0.1 * t for t in range(12)])
    assert said not in summary(telemetry=used).warnings
    assert said in summary(telemetry=used[:5]).warnings
    assert said in summary().warnings


def test_a_window_of_few_answers_says_how_sure_its_stability_is() -> None:
    """100 arrivals in 10 s: answers of 4 s leave twice their spread, of 0.14 s next to nothing."""
    (said,) = [w for w in summary([row(k * 0.1, gap=0.975) for k in range(-60, 140)]).warnings if "answers long" in w]
    assert said.startswith("the window at the SLO is 2.5 answers long: that the queue did not grow is sure to 23% ")
    assert not [w for w in summary().warnings if "answers long" in w]
