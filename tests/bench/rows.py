"""Request rows for tests: regular streams on a clock that starts at zero."""

from tokenhour.contracts.records.request import RequestRow


def row(
    scheduled: float = 0.0,
    *,
    lag: float = 0.0,
    ttft: float = 0.1,
    gap: float = 0.01,
    tokens: int = 5,
    outcome: str = "success",
    probe: int = 0,
    wanted: int | None = None,
) -> RequestRow:
    """Make a request whose first token comes `ttft` after it was sent and the others `gap` apart."""
    sent = scheduled + lag
    good = outcome == "success"
    offsets = [ttft + k * gap for k in range(tokens)] if good else []
    return RequestRow(
        request_id=f"{probe}-{scheduled}",
        probe=probe,
        worker=0,
        scheduled_s=scheduled,
        sent_s=sent,
        first_token_s=sent + offsets[0] if good else None,
        last_token_s=sent + offsets[-1] if good else None,
        finished_s=sent + (offsets[-1] if good else 0.05),
        outcome=outcome,
        status=200,
        detail="",
        prompt_tokens_requested=20,
        output_tokens_requested=tokens if wanted is None else wanted,
        prompt_tokens=20 if good else None,
        completion_tokens=tokens if good else None,
        cached_tokens=None,
        first_chunk_tokens=1 if good else None,
        chunks=len(offsets),
        chunk_offsets_s=offsets,
        chunk_tokens=[1] * len(offsets),
        finish_reason="length" if good else None,
    )
