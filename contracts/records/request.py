"""One request as the load generator saw it. Rows of requests.parquet; times in seconds on the run's monotonic clock.

History
    1  first version; taken_s came later, and rows without it say nothing of when a request was taken up
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

REQUESTS_FILE = "requests.parquet"
Outcome = Literal["success", "http_error", "in_band_error", "truncated", "malformed", "timeout", "connection", "cancelled"]


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request; absent figures are None, never zero."""

    request_id: str
    probe: int
    """Which probe of the run."""
    worker: int
    scheduled_s: float
    """Planned arrival."""
    sent_s: float | None
    first_token_s: float | None
    """First chunk that raised the completion-token count."""
    last_token_s: float | None
    finished_s: float
    outcome: Outcome
    status: int | None
    """HTTP status."""
    detail: str
    """What went wrong, in a line."""
    prompt_tokens_requested: int
    output_tokens_requested: int
    prompt_tokens: int | None
    """The server's `usage`."""
    completion_tokens: int | None
    cached_tokens: int | None
    first_chunk_tokens: int | None
    chunks: int
    chunk_offsets_s: Sequence[float]
    """Receive time of each token-bearing chunk, from sent_s."""
    chunk_tokens: Sequence[int]
    """Completion tokens that each of them brought."""
    finish_reason: str | None
    tokens_spread: bool = False
    """The server told tokens only at the end: they are spread evenly over the chunks that brought text."""
    taken_s: float | None = None
    """When the client took it up, where a connection had to be opened for it: connecting and the TLS handshake lie between
    this and sent_s, and are the network's time, not the client's. None: it was sent at once."""
