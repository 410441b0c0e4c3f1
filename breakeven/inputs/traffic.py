"""Today's traffic: volume, mix and shape, each from the scenario, from the user's own log, or from the measurement. Pure."""

from __future__ import annotations

from tokenhour.breakeven.inputs.demand import Demand
from tokenhour.breakeven.model.plant import Plant
from tokenhour.breakeven.prices.tables import TokenMix
from tokenhour.contracts.config.economics import ApiChoice, EconomicsSpec
from tokenhour.contracts.records.verdict import Badge, TrafficToday

DEFAULT_TOKENS_PER_MONTH = 1e9


def traffic(spec: EconomicsSpec, demand: Demand, plant: Plant) -> TrafficToday:
    """Resolve what a month asks for; what nobody said is as measured, and without any volume it is 1e9 tokens."""
    prompt, output, mix_badge = _mix(spec, demand, plant)
    tokens, volume_badge = _volume(spec, demand, prompt + output)
    return TrafficToday(
        tokens_per_month=tokens,
        requests_per_month=tokens / (prompt + output),
        prompt_tokens=prompt,
        output_tokens=output,
        cached_share=_cached(spec, demand),
        cache_write_share=spec.cache_write_share,
        batch_share=spec.batch_share,
        volume_badge=volume_badge,
        mix_badge=mix_badge,
        profile_badge=demand.badge,
        profile_source=demand.source,
        hourly_weights=demand.weights,
    )


def _mix(spec: EconomicsSpec, demand: Demand, plant: Plant) -> tuple[float, float, Badge]:
    if spec.request_classes:
        total = sum(k.share for k in spec.request_classes)
        prompt = sum(k.share * k.prompt_tokens for k in spec.request_classes) / total
        return prompt, sum(k.share * k.output_tokens for k in spec.request_classes) / total, "assumed"
    log = demand.log.tokens if demand.log else None
    prompt = spec.prompt_tokens or (log.prompt if log else plant.prompt_tokens)
    output = spec.output_tokens or (log.completion if log else plant.output_tokens)
    said = spec.prompt_tokens is not None or spec.output_tokens is not None
    guessed = plant.origin is not None and plant.origin.badge == "assumed" and log is None
    return prompt, output, "assumed" if said or guessed else "measured"


def _volume(spec: EconomicsSpec, demand: Demand, tokens_a_request: float) -> tuple[float, Badge]:
    if spec.tokens_per_month is not None:
        return spec.tokens_per_month, "assumed"
    if spec.requests_per_month is not None:
        return spec.requests_per_month * tokens_a_request, "assumed"
    if demand.tokens_per_month is not None:
        return demand.tokens_per_month, "measured"
    return DEFAULT_TOKENS_PER_MONTH, "assumed"


def _cached(spec: EconomicsSpec, demand: Demand) -> float:
    if demand.log and "cached_share" not in spec.model_fields_set:
        return demand.log.tokens.cached / demand.log.tokens.prompt
    return spec.cached_share


def mix_for(choice: ApiChoice, spec: EconomicsSpec, today: TrafficToday) -> TokenMix:
    """Return how one API would bill today's requests."""
    cached = today.cached_share if choice.cached_share is None else choice.cached_share
    batch = today.batch_share if choice.batch_share is None else choice.batch_share
    return TokenMix(today.prompt_tokens, today.output_tokens, cached, batch, today.cache_write_share, spec.request_classes)
