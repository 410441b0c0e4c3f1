"""Latency against throughput where little was measured."""

from tests.breakeven.summaries import summary
from tokenhour.breakeven.report.plots.measured import throughput_against_latency
from tokenhour.contracts.records.summary import Percentiles


def test_a_run_without_percentiles_or_with_saturation_alone_is_drawn_without_a_warning() -> None:
    """On a slow machine a window holds a handful of requests."""
    whole = summary()
    few = Percentiles(samples=3, mean_s=1.0, p50_s=None, p90_s=None, p99_s=None, at_slo_s=None)
    bare = [p.model_copy(update={"ttft": few, "tpot": few}) for p in whole.load_curve]
    throughput_against_latency([whole.model_copy(update={"load_curve": tuple(bare)})])
    alone = throughput_against_latency([whole.model_copy(update={"load_curve": whole.load_curve[:1]})])
    assert [text.get_text() for text in alone.axes[0].get_legend().get_texts()] == [whole.run]
