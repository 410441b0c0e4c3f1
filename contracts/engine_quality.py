"""Whether an engine computes what was quantized: the quality through its own logprobs beside the offline figures.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from contracts.record import Interval, Record


class EngineQuality(Record):
    """Quality of a checkpoint as an engine serves it, on the same held-out windows as the manifest's."""

    file_name: ClassVar[str] = "engine_quality.json"
    record: Literal["engine_quality"] = "engine_quality"
    version: Literal[1] = 1
    scheme: str
    engine: str
    quantization: str | None
    """The method that the engine says it loaded."""
    windows: int
    window_tokens: int
    perplexity: Interval
    """Through the engine's logprobs."""
    offline_perplexity: Interval
    perplexity_ratio: Interval
    """Engine over offline, window by window; bootstrap over windows."""
    top1_agreement: Interval
    """Share of positions at which the engine's most likely token is the original's."""
    offline_top1_agreement: Interval
    agrees: bool
    """Both engine figures lie within the offline intervals, top-1 within 2 points of it: bf16 flips ties."""
    inputs: dict[str, str]
    created_utc: str
