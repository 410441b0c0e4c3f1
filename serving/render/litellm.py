"""A LiteLLM configuration for the verdict's hybrid optimum: base load to the self-hosted model, overflow to the API."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict
from tokenhour.contracts.units import HOURS_PER_MONTH
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.render.context import Deployment
from tokenhour.serving.render.documents import fill

_MINUTES_PER_MONTH = HOURS_PER_MONTH * 60
# The pre-call check that makes `tpm` a limit came between 1.81.6, which lacks it, and 1.81.9, which has it.
_LITELLM_FROM = "1.81.9"
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
# Whose names our price tables use as they are.
_SAME_NAMES = frozenset({"openai", "anthropic", "google"})
# (host, model) of our price tables -> what the host calls it: LiteLLM 1.81.12's model table, where each has the price of our
# row (Fireworks' has the other price that our row's note mentions).
_MODEL_IDS = {
    # In regions without on-demand throughput an inference profile instead: us.meta.llama3-..., as provider_model.
    ("bedrock", "llama-3.1-8b-instruct"): "meta.llama3-1-8b-instruct-v1:0",
    ("bedrock", "llama-3.3-70b-instruct"): "meta.llama3-3-70b-instruct-v1:0",
    ("groq", "llama-3.1-8b-instruct"): "llama-3.1-8b-instant",
    ("groq", "llama-3.3-70b-instruct"): "llama-3.3-70b-versatile",
    ("novita", "llama-3.1-8b-instruct"): "meta-llama/llama-3.1-8b-instruct",
    ("novita", "llama-3.3-70b-instruct"): "meta-llama/llama-3.3-70b-instruct",
    ("fireworks", "llama-3.1-8b-instruct"): "accounts/fireworks/models/llama-v3p1-8b-instruct",
    ("together", "llama-3.1-8b-instruct"): "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
    ("together", "llama-3.3-70b-instruct"): "meta-llama/Llama-3.3-70B-Instruct-Turbo",
}


@dataclass(frozen=True, slots=True)
class GatewayMix:
    """What the verdict says about one run beside one API."""

    api_model: str
    api_host: str
    base_replicas: int
    overflow_share: float
    usd_per_month: float
    tokens_per_minute: int
    """What the base replicas take: capacity at the SLO with headroom."""
    provider_model: str | None = None
    """What the host calls the model, where the experiment says so."""

    def model_id(self) -> str:
        """Return what the host calls the model; InputError where neither the experiment nor we know."""
        if self.provider_model:
            return self.provider_model
        if self.api_host in _SAME_NAMES:
            return self.api_model
        if (known := _MODEL_IDS.get((self.api_host, self.api_model))) is not None:
            return known
        raise InputError(
            f"what {self.api_host} calls {self.api_model} is not known",
            where="economics.apis: provider_model",
            remedy=f"- {{model: {self.api_model}, host: {self.api_host}, provider_model: <its id there>}}",
        )


def hybrid_of(experiment: Experiment, run: str, results: Path) -> GatewayMix:
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
    chosen = (best.price.model, best.price.host)
    named = next((each.provider_model for each in experiment.economics.apis if (each.model, each.host) == chosen), None)
    return _hybrid(found, best, named)


def _hybrid(run: RunVerdict, best: Comparison, provider_model: str | None) -> GatewayMix:
    capacity = (run.capacity_tokens_per_month or 0.0) * best.hybrid.base_replicas
    return GatewayMix(
        api_model=best.price.model,
        api_host=best.price.host,
        base_replicas=best.hybrid.base_replicas,
        overflow_share=best.hybrid.overflow_share,
        usd_per_month=best.hybrid.usd_per_month,
        tokens_per_minute=int(capacity / _MINUTES_PER_MONTH),
        provider_model=provider_model,
    )


def render_gateway(found: Deployment, hybrid: GatewayMix) -> str:
    """Return LiteLLM's config.yaml. With no base replica in the optimum everything goes to the API.

    Raises InputError where it is not known what the API's host calls the model.
    """
    prefix, key = _PROVIDERS.get(hybrid.api_host, (hybrid.api_host, f"{hybrid.api_host.upper().replace('-', '_')}_API_KEY"))
    base = hybrid.base_replicas > 0 and hybrid.tokens_per_minute > 0
    return fill(
        "litellm.yaml.j2",
        found=found,
        hybrid=hybrid,
        base=base,
        api_name=f"{found.model_id}-overflow" if base else found.model_id,
        api_model=f"{prefix}/{hybrid.model_id()}",
        api_key=key,
        litellm_from=_LITELLM_FROM,
    )
