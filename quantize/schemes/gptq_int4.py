"""`gptq-int4`: INT4 weights in groups, GPTQ, in the auto-gptq format (GPTQModel is auto-gptq's successor)."""

from __future__ import annotations

from tokenhour.quantize.backends.gptqmodel import load, run
from tokenhour.quantize.scheme_table import Job, Recipe

__all__ = ["load", "make"]


def make(job: Job) -> Recipe:
    """Quantize to 4 bits."""
    return run(job, bits=4)
