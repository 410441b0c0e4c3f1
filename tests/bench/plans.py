"""A probe's plan for tests: ten requests of a load of ten a second."""

from pathlib import Path
from typing import Any

from tokenhour.bench.loadgen.probe_plan import ProbePlan
from tokenhour.bench.target.openai_api import Dialect
from tokenhour.bench.workload.request_plan import Ask


def plan(**changes: Any) -> ProbePlan:
    """Return a plan with some of its fields changed."""
    found = {
        "raw": Path("raw"),
        "probe": 0,
        "worker": 0,
        "workers": 1,
        "joined": False,
        "base_url": "http://127.0.0.1:1",
        "model_id": "toy",
        "dialect": Dialect(),
        "tokenizer": None,
        "template_tokens": 0,
        "key_env": "KEY",
        "salt": "salt",
        "prefix_tokens": 0,
        "think_s": 0.0,
        "concurrency": None,
        "cut": 0,
        "zero_ns": 10**9,
        "start_ns": 3 * 10**9,
        "horizon_s": 1.0,
        "timeout_s": 1.0,
        "inactivity_timeout_s": 1.0,
        "talks": [[Ask(k, k / 10, 20, 6, 0)] for k in range(10)],
    }
    return ProbePlan(**found | changes)
