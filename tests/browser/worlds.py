"""Solved verdicts that differ in everything that the page's engine must follow: fleets, tiers, batch, currencies, owning."""

from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.breakeven.summaries import EXPERIMENT, write_all
from tokenhour.breakeven.inputs.problem import Question
from tokenhour.breakeven.prices.tables import Tables, load_tables
from tokenhour.breakeven.solve.from_verdict import demand, plants
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.economics import ApiChoice, EconomicsSpec
from tokenhour.contracts.config.economics_extras import UncertaintySpec
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.verdict import Verdict

PRICES = Path("configs/prices")
DAY = [1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 12, 13, 14, 13, 11, 9, 7, 5, 4, 3, 2, 1]
WEEK = [w * (1.0 if day < 5 else 0.31) for day in range(7) for w in DAY]
APIS = [
    {"model": "gpt-4o-mini", "host": "openai", "tokens_ratio": 1.13},
    {"model": "llama-3.1-8b-instruct", "host": "groq"},
    {"model": "claude-haiku-5-5", "host": "anthropic"},
    {"model": "gemini-3.8-flash", "host": "google"},
]
OWNED = {
    "capex_usd": 30000, "accelerators": 4, "kind": "cpu", "life_years": 4, "residual_usd": 2500, "power_kw": 0.8,
    "colocation_usd_per_month": 150, "maintenance_usd_per_year": 600,
}  # fmt: skip
GPU = Accelerator(kind="cuda", name="Some GPU", count=1, memory_bytes=2**36)
WORLDS = {
    "fixed": {},
    "redundant": {
        "redundancy": 1, "min_replicas": 3, "profile": {"hours": DAY}, "storage_usd_per_month": 12.5, "ops_share": 0.15,
        "setup_usd": 3000, "setup_months": 24, "growth_per_year": 0.6, "ops_usd_per_month": 40,
    },
    "autoscale": {
        "scaling": "autoscale", "profile": {"hours": DAY}, "cold_start_s": 4000, "redundancy": 1, "max_replicas": 300,
        "gpu_drift_per_year": -0.1, "growth_per_year": 0.2, "setup_usd": 500,
    },
    "week": {
        "scaling": "autoscale", "profile": {"hours": WEEK}, "cold_start_s": 90, "min_replicas": 2, "max_replicas": 200,
        "egress_usd_per_month": 3, "api_decay_per_year": 0.3, "cache_write_share": 0.0,
    },
    "classes": {
        "request_classes": [
            {"share": 3, "prompt_tokens": 800, "output_tokens": 200},
            {"share": 0.2, "prompt_tokens": 150_000, "output_tokens": 900},
        ],
        "headroom": 0.7,
    },
    "rented gpu": {"hardware": "H100_1x", "cloud": "nebius", "accelerator": GPU, "redundancy": 1, "ops_share": 0.1},
    "owned": {"purchase": "owned", "owned": OWNED, "setup_usd": 2000, "growth_per_year": 0.5, "redundancy": 1},
}  # fmt: skip


def make(results: Path, name: str) -> Verdict:
    """Solve one world below `results`."""
    data = EXPERIMENT.model_dump(mode="json", exclude_defaults=True)
    world = dict(WORLDS[name])
    write_all(results, **({"accelerator": world.pop("accelerator")} if "accelerator" in world else {}))
    data["economics"] |= {"apis": APIS, **world}
    return run(type(EXPERIMENT).model_validate(data), results, PRICES, allow_invalid=False)[0]


def question(verdict: Verdict, state: dict[str, Any], base: dict[str, Any]) -> Question:
    """Put the sliders' state into the Python engine's own inputs, as a scenario with these values would."""
    spec = verdict.economics
    hourly = state["gpu_usd_per_hour"] / base["prices"][state["purchase"]]
    changes = {
        "tokens_per_month": state["tokens"],
        "requests_per_month": None,
        "cached_share": state["cached"],
        "headroom": state["headroom"],
        "ops_usd_per_month": state["ops_usd"],
        "engineering_usd_per_month": state["engineering_usd"],
        "api_decay_per_year": state["api_decay"],
        "purchase": state["purchase"],
        "uncertainty": UncertaintySpec(draws=100),
        "apis": tuple(_choice(verdict, choice, state["prompt"]) for choice in spec.apis),
    }
    if not spec.request_classes:
        changes |= {"prompt_tokens": state["prompt"], "output_tokens": state["output"]}
    if spec.owned:
        parts = ("capex_usd", "residual_usd", "colocation_usd_per_month", "maintenance_usd_per_year")
        changes["owned"] = spec.owned.model_copy(update={part: getattr(spec.owned, part) * hourly for part in parts})
        changes["electricity_usd_per_kwh"] = spec.electricity_usd_per_kwh * hourly
    economics = EconomicsSpec.model_validate(spec.model_copy(update=changes).model_dump())
    return Question(
        name=verdict.experiment,
        economics=economics,
        plants=plants(verdict),
        demand=demand(verdict),
        tables=_tables(state["api_multiple"], state["purchase"], hourly),
        on=verdict.on_date,
    )


def _choice(verdict: Verdict, choice: ApiChoice, prompt: float) -> ApiChoice:
    """An API without a price for cache reads, at these lengths and at any time of the horizon, bills its input in full."""
    found = next(c for c in verdict.runs[0].comparisons if (c.price.model, c.price.host) == (choice.model, choice.host))
    inputs = [k.prompt_tokens for k in verdict.economics.request_classes] or [prompt]
    for row in (found.price, *found.later_prices):
        for tokens in inputs:
            above = [t for t in row.context_tiers if tokens * choice.tokens_ratio > t.above_input_tokens]
            if (max(above, key=lambda t: t.above_input_tokens) if above else row).cache_read is None:
                return choice.model_copy(update={"cached_share": 0.0})
    return choice


def _tables(api_multiple: float, purchase: str, machine_multiple: float) -> Tables:
    tables, api, machine = load_tables(PRICES), Decimal(api_multiple), Decimal(machine_multiple)
    names = ("input", "output", "cache_read", "cache_write")

    def scaled(row: Any, fields: Collection[str], by: Decimal) -> Any:
        return row.model_copy(update={f: p * by for f in fields if (p := getattr(row, f)) is not None})

    apis = [
        scaled(row, names, api).model_copy(
            update={"context_tiers": tuple(scaled(tier, names, api) for tier in row.context_tiers)}
        )
        for row in tables.apis
    ]
    options = () if purchase == "owned" else (purchase,)
    return Tables(tuple(apis), tuple(scaled(row, options, machine) for row in tables.instances), tables.folder)
