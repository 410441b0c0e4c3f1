"""One reader of /metrics for the sampler, the supervisor and the idle scan."""

import pytest

from tokenhour.machine.prometheus import read_metrics, totals

TEXT = """# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="a {b} c"} 3.0
vllm:prompt_tokens_total{engine="1",model_name="x"} 4e+00
vllm:prompt_tokens_created{engine="0"} 1.7e+09

vllm:kv_cache_usage_perc 0.25
vllm:ttft_bucket{le="+Inf"} 9.0
vllm:num_requests_running{engine="0"} NaN
other 9
"""


def test_series_of_several_engines_are_added_and_only_the_wanted_ones_are_read() -> None:
    """Labels are summed; a name that begins like a wanted one is another series."""
    wanted = {"vllm:prompt_tokens_total", "vllm:kv_cache_usage_perc"}
    assert totals(TEXT, wanted) == {"vllm:prompt_tokens_total": 7.0, "vllm:kv_cache_usage_perc": 0.25}
    assert totals(TEXT)["other"] == 9.0


def test_what_is_not_a_number_is_no_reading() -> None:
    """A gauge that says NaN is absent, not zero."""
    assert totals(TEXT, {"vllm:num_requests_running"}) == {}


def test_a_broken_line_matters_only_where_it_is_wanted() -> None:
    """The sampler leaves the lines of other series alone."""
    assert totals(TEXT + "broken x y z\n", {"other"}) == {"other": 9.0}
    with pytest.raises(ValueError, match="could not convert"):
        totals("other x\n", {"other"})


def test_a_server_that_does_not_answer_has_no_metrics() -> None:
    """Nothing listens on port 9."""
    assert read_metrics("http://127.0.0.1:9") == {}
