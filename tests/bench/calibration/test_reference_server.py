"""The reference server: what it sends is what it says that it sent."""

import shutil

import numpy as np
import pytest

from tokenhour.bench.calibration import reference_server

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler here")


@needs_compiler
def test_the_reference_server_keeps_its_schedule_and_tells_the_truth() -> None:
    """Its stream is what an OpenAI server sends, and its times are what the calibration relies on."""
    import json
    import urllib.request

    with reference_server.running(0.02, 0.005) as server:
        ask = {"prompt": [1, 2, 3], "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}
        request = urllib.request.Request(
            f"{server.base_url}/v1/completions", json.dumps(ask).encode(), {"X-Request-Id": "mine"}
        )
        text = urllib.request.urlopen(request, timeout=10).read().decode()
        found = server.truth()["mine"]
    events = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None, None, None, "length"]
    assert events[-1]["usage"] == {
        "prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": None
    }  # fmt: skip
    assert found.tokens == 4
    assert found.sent_ns[0] >= 20_000_000
    assert np.all(np.diff(found.sent_ns) > 0)
    assert found.last_ns - found.received_ns >= 35_000_000
