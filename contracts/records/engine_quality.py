"""Whether an engine computes what was quantized: the quality through its own logprobs beside the offline figures.

History
    1  first version; later with the loss, the KL divergence and the bounds, which older records lack
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.record import Interval, Record


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
    loss: Interval | None = None
    """The engine's negative log-likelihood minus the original's offline, nats a token; bootstrap over the same windows."""
    offline_loss: Interval | None = None
    """The manifest's, likewise."""
    loss_bounds: tuple[float, float] | None = None
    """Where the engine's must lie: the offline interval, widened by what bf16 may do at so many positions."""
    top1_bounds: tuple[float, float] | None = None
    top_kl_divergence: Interval | None = None
    """KL divergence of the original to the engine, over its 20 most likely tokens and all others as one."""
    offline_top_kl_divergence: Interval | None = None
    top_kl_bounds: tuple[float, float] | None = None
    original_would_be_found_out: bool | None = None
    """Whether the original, served in place of this checkpoint, would lie outside the bounds. Not with few windows and a
    small loss, and never for the original itself."""
    agrees: bool
    """Every figure that has bounds lies within them."""
    inputs: dict[str, str]
    created_utc: str
