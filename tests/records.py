"""Records as earlier stages would have left them, for the tests of later stages."""

import os
from typing import Any

from tokenhour.bench.summary.validity import CPU_RULE, DRIFT_RULE, LAG_RULE
from tokenhour.contracts.records.checkpoint import Checkpoint, SourceRecord
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import ColdStart, Server

ACCELERATOR = Accelerator(kind="cpu", name="Test CPU", count=1, memory_bytes=2**34)
# What another program on the machine can cause, and no test may be about.
DISTURBANCES = frozenset({LAG_RULE, CPU_RULE, DRIFT_RULE})
WHEN = "2026-01-01T00:00:00+00:00"


def checkpoint(**changes: Any) -> Checkpoint:
    """Return the manifest of a toy's original weights, with changes."""
    fields = {
        "scheme": "none",
        "model_name": "Toy",
        "path": "/c/model",
        "source": SourceRecord(source="./model", files={}),
        "recipe": {},
        "calibration": None,
        "parameters": 1,
        "bits_per_weight": 16,
        "weight_bytes": 2,
        "total_bytes": 2,
        "quantize_seconds": 0,
        "peak_rss_bytes": 1,
        "tool_versions": {},
        "files": {},
        "quality": None,
        "inputs": {},
        "created_utc": WHEN,
    }
    return Checkpoint.model_validate({**fields, **changes})


def server(base_url: str, model: str, **changes: Any) -> Server:
    """Return the record of a toy server, with changes."""
    fields = {
        "engine": "toy 1",
        "argv": (),
        "environment": {},
        "base_url": base_url,
        "model_id": "toy",
        "scheme": "none",
        "checkpoint_path": model,
        "checkpoint_sha256": "",
        "accelerator": ACCELERATOR,
        "engine_pid": os.getpid(),
        "cold_start": ColdStart(weights_s=None, health_s=1, ready_s=2),
        "greeting": "hello",
        "quantization": None,
        "versions": {},
        "log_path": "",
        "started_utc": WHEN,
        "inputs": {},
    }
    return Server.model_validate({**fields, **changes})
