"""The gateway between the fleet and an API: LiteLLM's keys, each host's names, the verdict's capacity."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import ROOT
from tests.breakeven import summaries
from tests.serving.test_render import PRICES, example
from tokenhour.contracts.config.prices import ApiPriceTable
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.render.litellm import GatewayMix, hybrid_of, render_gateway

HYBRID = GatewayMix("gpt-4o-mini", "openai", 2, 0.1, 4321.0, 600_000)


def test_the_gateway_sends_base_load_home_and_overflow_to_the_api() -> None:
    """LiteLLM fills the self-hosted fleet up to its capacity, falls back to the API, and reads keys from variables."""
    config = yaml.safe_load(render_gateway(example(), HYBRID))
    own, api = config["model_list"]
    assert own["litellm_params"]["tpm"] == 600_000
    assert own["litellm_params"]["model"].startswith("hosted_vllm/")
    assert api["litellm_params"]["model"] == "openai/gpt-4o-mini"
    assert config["router_settings"]["fallbacks"] == [{own["model_name"]: [api["model_name"]]}]
    assert all(
        value.startswith("os.environ/")
        for each in (own, api)
        for k, value in each["litellm_params"].items()
        if k == "api_key"
    )


# LiteLLM's documented keys (docs.litellm.ai: proxy/config_settings and router/api_reference/configuration), those in use.
LITELLM_KEYS = {
    "model_list": None,
    "router_settings": {"num_retries", "cooldown_time", "allowed_fails", "optional_pre_call_checks", "fallbacks"},
    "general_settings": {"master_key"},
    "litellm_settings": {"drop_params"},
}


@pytest.mark.parametrize("base", [0, 2])
def test_the_gateways_file_has_documented_keys_and_names_only_models_that_it_lists(base: int) -> None:
    """The gateway file uses only LiteLLM's documented keys, so no setting is silently ignored."""
    config = yaml.safe_load(render_gateway(example(), GatewayMix("gpt-4o-mini", "openai", base, 0.1, 1.0, 600_000 * base)))
    assert set(config) == set(LITELLM_KEYS)
    for section, known in LITELLM_KEYS.items():
        assert known is None or set(config[section]) <= known
    names = {each["model_name"] for each in config["model_list"]}
    for each in config["model_list"]:
        assert set(each) == {"model_name", "litellm_params"}
        assert set(each["litellm_params"]) <= {"model", "api_base", "api_key", "tpm"}
        assert "/" in each["litellm_params"]["model"], "a provider goes before the model"
    for fallback in config["router_settings"].get("fallbacks", ()):
        assert {*fallback, *(model for models in fallback.values() for model in models)} <= names


@pytest.mark.skipif(importlib.util.find_spec("litellm") is None, reason="needs litellm, which nothing here installs")
@pytest.mark.filterwarnings("ignore")
def test_litellm_takes_the_gateways_file() -> None:
    """LiteLLM's own router loads the rendered configuration."""
    from litellm import Router

    config = yaml.safe_load(render_gateway(example(), HYBRID))
    router = Router(model_list=config["model_list"], **config["router_settings"])
    assert set(router.get_model_names()) == {each["model_name"] for each in config["model_list"]}


def test_an_optimum_without_a_replica_sends_everything_to_the_api() -> None:
    """When no replica pays off, the gateway lists the API alone under the usual model name."""
    config = yaml.safe_load(render_gateway(example(), GatewayMix("gpt-4o-mini", "openai", 0, 1.0, 10.0, 0)))
    (api,) = config["model_list"]
    assert api["model_name"] == example().model_id
    assert "fallbacks" not in config["router_settings"]


def gateway_model(model: str, host: str, provider_model: str | None = None) -> str:
    """Return the name by which the gateway asks the API host for the model."""
    text = render_gateway(example(), GatewayMix(model, host, 2, 0.1, 1.0, 600_000, provider_model))
    return yaml.safe_load(text)["model_list"][-1]["litellm_params"]["model"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("bedrock", "bedrock/meta.llama3-1-8b-instruct-v1:0"),
        ("groq", "groq/llama-3.1-8b-instant"),
        ("novita", "novita/meta-llama/llama-3.1-8b-instruct"),
        ("together", "together_ai/meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"),
        ("fireworks", "fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct"),
    ],
)
def test_the_gateway_asks_each_host_by_its_own_name_for_the_model(host: str, expected: str) -> None:
    """Hosts name the same model differently; the experiment's `provider_model` overrides the built-in name."""
    assert gateway_model("llama-3.1-8b-instruct", host) == expected
    assert gateway_model("llama-3.1-8b-instruct", host, "mine").endswith("/mine"), "the experiment's word goes first"


def test_every_row_of_the_price_table_that_comes_along_has_a_name_at_its_host() -> None:
    """Every API that can be compared can also be reached through the gateway."""
    for row in validate_yaml(ApiPriceTable, PRICES / "api.yaml").prices:
        assert gateway_model(row.model, row.host)


def test_a_name_that_nobody_knows_is_asked_for() -> None:
    """An unknown provider name is rejected with the field to set, instead of guessed."""
    with pytest.raises(InputError, match=r"what deepinfra calls llama-3\.1-8b-instruct is not known") as caught:
        gateway_model("llama-3.1-8b-instruct", "deepinfra")
    assert caught.value.where == "economics.apis: provider_model"
    assert caught.value.exit_code == 2
    assert gateway_model("llama-3.1-8b-instruct", "deepinfra", "meta-llama/x") == "deepinfra/meta-llama/x"


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (2, "serving.replicas = 2 is what the optimum has"),
        (3, "Set serving.replicas: 3"),
        (0, "the fleet is not asked"),
    ],
)
def test_the_gateways_heading_says_what_it_needs(base: int, said: str) -> None:
    """The file's heading compares the optimum with `serving.replicas` and names the LiteLLM version it needs."""
    text = render_gateway(example(), GatewayMix("gpt-4o-mini", "openai", base, 0.1, 1.0, 600_000 * base))
    heading = text[: text.index("model_list")]
    assert said in heading
    assert "litellm[proxy]>=1.81.9" in heading
    assert all(line.startswith("#") for line in heading.splitlines())


def test_the_gateways_capacity_is_the_verdicts(tmp_path: Path) -> None:
    """Gateway limits come from the cheapest hybrid in `verdict.json`, so deployment and recommendation agree."""
    from tokenhour.contracts.records.verdict import Verdict

    summaries.write_all(tmp_path)
    summaries.EXPERIMENT.write(tmp_path)
    argv = [sys.executable, "-m", "tokenhour", "breakeven", "solve", str(tmp_path / "experiment.json")]
    done = subprocess.run([*argv, "--results", str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    verdict = Verdict.read(RunDir.of(tmp_path, summaries.EXPERIMENT).path)
    run = next(each for each in verdict.runs if each.capacity_tokens_per_month)
    found = hybrid_of(summaries.EXPERIMENT, run.run, tmp_path)
    assert found.usd_per_month == min(each.hybrid.usd_per_month for each in run.comparisons)
    choices = [each.model_copy(update={"provider_model": "named"}) for each in summaries.EXPERIMENT.economics.apis]
    economics = summaries.EXPERIMENT.economics.model_copy(update={"apis": tuple(choices)})
    naming = summaries.EXPERIMENT.model_copy(update={"economics": economics})
    assert (found.provider_model, hybrid_of(naming, run.run, tmp_path).provider_model) == (None, "named")
    assert found.tokens_per_minute == int(run.capacity_tokens_per_month * found.base_replicas / (730 * 60))
