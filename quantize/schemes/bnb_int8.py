"""`bnb-int8`: LLM.int8() of bitsandbytes: INT8 weights a row, outlier activation columns in 16 bits."""

from __future__ import annotations

from tokenhour.quantize.backends.bitsandbytes_load import load, run
from tokenhour.quantize.model.layer_rules import said
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]

OUTLIER_THRESHOLD = 6.0


def make(job: Job) -> Recipe:
    """Pack as LLM.int8() does (arXiv 2208.07339); no calibration text is read."""
    run(job, load_in_8bit=True, llm_int8_threshold=OUTLIER_THRESHOLD)
    return {
        "method": "LLM.int8()",
        "weights": "int8 symmetric per row",
        "outlier_threshold": OUTLIER_THRESHOLD,
        **said(job.spec),
    }
