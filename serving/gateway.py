"""A LiteLLM configuration for the verdict's hybrid optimum: base load to the self-hosted model, overflow to the API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import InputError
from contracts.experiment import Experiment
from contracts.rundir import RunDir
from contracts.units import HOURS_PER_MONTH
from contracts.verdict import Comparison, RunVerdict, Verdict
from serving.compose import dump_all
from serving.deployment import Deployment

_MINUTES_PER_MONTH = HOURS_PER_MONTH * 60
# API host of our price tables -> (LiteLLM's provider prefix, variable of its key).
_PROVIDERS = {
    "openai": ("openai", "OPENAI_API_KEY"),
    "anthropic": ("anthropic", "ANTHROPIC_API_KEY"),
    "google": ("gemini", "GEMINI_API_KEY"),
    "bedrock": ("bedrock", None),
    "groq": ("groq", "GROQ_API_KEY"),
    "novita": ("novita", "NOVITA_API_KEY"),
    "together": ("together_ai", "TOGETHERAI_API_KEY"),
    "fireworks": ("fireworks_ai", "FIREWORKS_AI_API_KEY"),
    "deepinfra": ("deepinfra", "DEEPINFRA_API_KEY"),
}


@dataclass(frozen=True, slots=True)
class Hybrid:
    """What the verdict says about one run beside one API."""

    api_model: str
    api_host: str
    base_replicas: int
    overflow_share: float
    usd_per_month: float
    tokens_per_minute: int
    """What the base replicas take: capacity at the SLO with headroom."""


def hybrid_of(experiment: Experiment, run: str, results: Path) -> Hybrid:
    """Read the optimum of `run` from the verdict: beside the API with which the month is cheapest.

    Raises InputError without a verdict, for a run that it does not know, and for one without capacity at the SLO.
    """
    verdict = Verdict.read(RunDir.of(results, experiment).path)
    found = next((each for each in verdict.runs if each.run == run), None)
    if found is None:
        known = ", ".join(each.run for each in verdict.runs)
        raise InputError(f"the verdict has no run {run}", where="--scheme", remedy=f"it has {known}")
    if not found.comparisons or not found.capacity_tokens_per_month:
        raise InputError(
            f"{run} met the latency objective at no rate: there is no base load for it",
            where=run,
            remedy="measure another one",
        )
    best = min(found.comparisons, key=lambda each: each.hybrid.usd_per_month)
    return _hybrid(found, best)


def _hybrid(run: RunVerdict, best: Comparison) -> Hybrid:
    capacity = (run.capacity_tokens_per_month or 0.0) * best.hybrid.base_replicas
    return Hybrid(
        api_model=best.price.model,
        api_host=best.price.host,
        base_replicas=best.hybrid.base_replicas,
        overflow_share=best.hybrid.overflow_share,
        usd_per_month=best.hybrid.usd_per_month,
        tokens_per_minute=int(capacity / _MINUTES_PER_MONTH),
    )


def render_gateway(found: Deployment, hybrid: Hybrid) -> str:
    """Return LiteLLM's config.yaml. With no base replica in the optimum everything goes to the API."""
    prefix, key = _PROVIDERS.get(hybrid.api_host, (hybrid.api_host, f"{hybrid.api_host.upper().replace('-', '_')}_API_KEY"))
    api = {"model": f"{prefix}/{hybrid.api_model}", **({"api_key": f"os.environ/{key}"} if key else {})}
    name, overflow = found.model_id, f"{found.model_id}-overflow"
    own = {
        "model": f"hosted_vllm/{found.model_id}",
        "api_base": "os.environ/SELF_HOSTED_URL",
        "api_key": "os.environ/VLLM_API_KEY",
        "tpm": hybrid.tokens_per_minute,
    }
    base = hybrid.base_replicas > 0 and hybrid.tokens_per_minute > 0
    models = [{"model_name": name, "litellm_params": own}] if base else []
    models.append({"model_name": overflow if base else name, "litellm_params": api})
    router: dict[str, Any] = {"num_retries": 0, "cooldown_time": 5, "allowed_fails": 3}
    if base:
        # Beyond tpm the engine is not asked: the request goes to the API at once.
        router |= {"optional_pre_call_checks": ["enforce_model_rate_limits"], "fallbacks": [{name: [overflow]}]}
    settings = {
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
        "litellm_settings": {"drop_params": True},
    }
    return _heading(found, hybrid) + dump_all([{"model_list": models, "router_settings": router, **settings}])


def _heading(found: Deployment, hybrid: Hybrid) -> str:
    return (
        f"# Rendered by `tokenhour serving render gateway` for {found.name}; do not edit, render again.\n"
        f"# The verdict's optimum: {hybrid.base_replicas} replicas, {hybrid.overflow_share:.0%} of the tokens to "
        f"{hybrid.api_model} ({hybrid.api_host}), ${hybrid.usd_per_month:.2f} a month.\n"
        f"# {hybrid.tokens_per_minute} tokens a minute is their planned capacity at the latency objective.\n"
        "#\n"
        "#   export SELF_HOSTED_URL=http://router:8080/v1 VLLM_API_KEY=... LITELLM_MASTER_KEY=... and the API's key\n"
        "#   litellm --config THIS\n"
    )
