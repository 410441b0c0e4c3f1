"""Deployments from the same experiment: valid by the public schemas, safe by default, and true to what was measured."""

import importlib.resources
import importlib.util
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests import ROOT
from tests.breakeven import summaries
from tests.records import checkpoint, server
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.config.prices import ApiPriceTable
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.server import ColdStart
from tokenhour.machine.hardware import host
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.launch.engine_env import choose_ports
from tokenhour.serving.render.context import Deployment, deployment
from tokenhour.serving.render.documents import fill, render_compose, render_kubernetes
from tokenhour.serving.render.litellm import GatewayMix, hybrid_of, render_gateway

EXAMPLE = ROOT / "configs/experiments/h100-chat.yaml"
PRICES = ROOT / "configs/prices"
KUBERNETES = "1.33"
H100 = Accelerator(kind="cuda", name="NVIDIA H100", count=1, memory_bytes=80 * 2**30)
SECRET = "0123456789abcdef-very-secret"


def example(results: Path = Path("none"), device: str = "cuda", **operations: Any) -> Deployment:
    """Render the example experiment, with changes to its operations."""
    experiment = load_experiment(EXAMPLE)
    if operations:
        changed = experiment.operations.model_copy(update=operations)
        experiment = experiment.model_copy(update={"operations": changed})
    return deployment(experiment, "w8a8", results, PRICES, device)


def compose(found: Deployment) -> dict[str, Any]:
    """Parse the rendered compose file."""
    return yaml.safe_load(render_compose(found))


def kubernetes(found: Deployment) -> dict[str, Any]:
    """Parse the rendered manifests, by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(render_kubernetes(found))}


def compose_schema() -> dict[str, Any]:
    """Load the public schema of compose files."""
    files = importlib.resources.files("check_jsonschema")
    return json.loads((files / "builtin_schemas/vendor/compose-spec.json").read_text())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("tls", [None, "/certs/server.pem"])
def test_the_compose_file_is_valid_by_the_compose_specification(device: str, tls: str | None) -> None:
    """Docker accepts the rendered file on GPU and CPU, with TLS and without."""
    jsonschema.validate(compose(example(device=device, tls_certificate=tls)), compose_schema())


def test_the_schema_refuses_a_compose_file_that_is_wrong() -> None:
    """The validation itself can fail."""
    document = compose(example())
    document["services"]["router"]["prots"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, compose_schema())


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_manifests_are_valid_by_the_kubernetes_schemas(device: str) -> None:
    """Kubernetes accepts every rendered document, checked strictly against the public schemas."""
    for document in kubernetes(example(device=device)).values():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_schemas_refuse_a_manifest_that_is_wrong() -> None:
    """A misspelled field fails the validation, so the check above means something."""
    document = kubernetes(example())["Deployment"]
    document["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_committed_files_are_what_the_example_renders() -> None:
    """deploy/ stays in step with the renderer, so readers never copy a stale file."""
    found = example()
    assert (ROOT / "deploy/compose.yaml").read_text() == render_compose(found)
    assert (ROOT / "deploy/kubernetes.yaml").read_text() == render_kubernetes(found)


def test_gpus_are_shared_out_and_asked_for() -> None:
    """Each replica gets a GPU of its own, and a CPU deployment carries no GPU exporter."""
    services = compose(example())["services"]
    devices = [
        services[f"vllm-{number}"]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for number in (0, 1)
    ]
    assert devices == [["0"], ["1"]]
    container = kubernetes(example())["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "gpu-metrics" not in compose(example(device="cpu"))["services"]


def test_probes_fit_the_measured_cold_start(tmp_path: Path) -> None:
    """Startup limits allow twice the measured cold start, so a slow load is not killed halfway."""
    run = RunDir.of(tmp_path, load_experiment(EXAMPLE), "w8a8").path
    run.mkdir()
    start = ColdStart(weights_s=20, health_s=80, ready_s=83)
    server("http://127.0.0.1:1", "/c", cold_start=start, accelerator=H100).write(run)
    checkpoint(scheme="w8a8", model_name="Qwen", path="/somewhere/qwen-w8a8-0123").write(run)
    found = example(tmp_path)
    probe = kubernetes(found)["Deployment"]["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 170, "twice the measured 83 s, in whole checks"
    assert compose(found)["services"]["vllm-0"]["healthcheck"]["start_period"] == "166s"
    assert "measured cold start 83 s on NVIDIA H100" in render_compose(found)
    assert "/models/qwen-w8a8-0123" in found.arguments
    assert "no start was measured yet" in render_compose(example())


@pytest.mark.parametrize(
    ("device", "changes", "measured", "said"),
    [
        ("cuda", {}, True, "measured cold start 20 s on NVIDIA H100"),
        ("cpu", {}, False, "no start was measured yet on cpu (on cuda it took 20 s, which says nothing about it)"),
        ("cuda", {"accelerator": host()}, False, "no start was measured yet on cuda (on cpu it took 20 s"),
        ("cpu", {"accelerator": host()}, True, "measured cold start 20 s on"),
        ("cuda", {"synthetic": ("dummy weights",)}, False, "no start was measured yet with real weights"),
    ],
)
def test_a_start_counts_only_for_the_device_that_it_was_measured_on(
    tmp_path: Path, device: str, changes: dict[str, Any], measured: bool, said: str
) -> None:
    """Twice the 20 s of a CPU would have Kubernetes kill an engine that captures CUDA graphs, again and again."""
    run = RunDir.of(tmp_path, load_experiment(EXAMPLE), "w8a8").path
    run.mkdir()
    start = ColdStart(weights_s=2, health_s=19, ready_s=20)
    server("http://127.0.0.1:1", "/c", **{"cold_start": start, "accelerator": H100, **changes}).write(run)
    found = example(tmp_path, device=device)
    assert (found.start_measured, found.start_limit_s) == (measured, 40 if measured else 600)
    assert said in render_kubernetes(found)


def test_the_autoscaler_watches_the_queue_and_is_patient_for_several_starts() -> None:
    """Scaling follows waiting requests and does not give up replicas that take minutes to load."""
    scaler = kubernetes(example())["HorizontalPodAutoscaler"]["spec"]
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == "vllm_num_requests_waiting"
    assert scaler["minReplicas"] == 2
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] >= 4 * 600
    rule = yaml.safe_load(kubernetes(example())["ConfigMap"]["data"]["prometheus-adapter.yaml"])["rules"][0]
    assert rule["name"]["as"] == "vllm_num_requests_waiting"


def test_nothing_is_open_that_need_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only router and Grafana are published, on loopback, and no rendered file contains a secret."""
    monkeypatch.setenv("TOKENHOUR_API_KEY", SECRET)
    found = example()
    document = compose(found)
    published = {name: each["ports"] for name, each in document["services"].items() if "ports" in each}
    assert set(published) == {"router", "grafana"}
    assert all("127.0.0.1" in port for ports in published.values() for port in ports)
    assert document["networks"]["inside"]["internal"] is True
    assert document["services"]["vllm-0"]["networks"] == ["inside"]
    text = render_compose(found) + render_kubernetes(found)
    assert SECRET not in text
    assert "VLLM_SERVER_DEV_MODE" not in text
    assert "--api-key" not in text
    key = next(
        e for e in kubernetes(found)["Deployment"]["spec"]["template"]["spec"]["containers"][0]["env"] if "valueFrom" in e
    )
    assert key["valueFrom"]["secretKeyRef"]["key"] == "api-key"


def test_dummy_weights_bring_no_folder_of_this_machine_into_a_container() -> None:
    """Paths of this machine do not exist in a container; the files also warn that answers mean nothing."""
    experiment = load_experiment(EXAMPLE)
    serving = experiment.serving.model_copy(update={"dummy_weights": True})
    found = deployment(experiment.model_copy(update={"serving": serving}), "w8a8", Path("none"), PRICES, "cuda")
    for text in (render_compose(found), render_kubernetes(found)):
        assert "PYTHONPATH" not in text
        assert "TOKENHOUR_RANDOM_BITS" not in text
        assert str(ROOT) not in text
        assert "answers mean nothing" in text


def allowed_paths(text: str) -> set[str]:
    """List the paths that the router's configuration lets through."""
    (line,) = [line for line in text.splitlines() if "acl allowed path" in line]
    return set(line.split()[3:])


def test_the_router_lets_nothing_through_that_the_engine_answers_without_a_key() -> None:
    """Of the paths that clients ask for, vLLM checks its key below /v1 only."""
    found = example(api_key_env="TOKENHOUR_API_KEY")
    for text in (
        compose(found)["configs"]["haproxy"]["content"],
        kubernetes(found)["ConfigMap"]["data"]["haproxy.cfg"],
    ):
        paths = allowed_paths(text)
        assert {"/health", "/v1/models", "/v1/chat/completions"} <= paths
        assert all(path == "/health" or path.startswith("/v1/") for path in paths)


def test_a_dollar_sign_in_a_configuration_is_not_interpolated() -> None:
    """Dollar signs are doubled; otherwise compose would replace Prometheus labels with empty variables."""
    content = compose(example())["configs"]["rules"]["content"]
    assert "$$labels" in content
    assert "$" not in content.replace("$$", "")


def test_ray_over_several_nodes_is_not_rendered() -> None:
    """A deployment over several nodes is rejected rather than rendered wrongly."""
    experiment = load_experiment(EXAMPLE)
    ray = experiment.model_copy(update={"serving": experiment.serving.model_copy(update={"executor": "ray"})})
    with pytest.raises(InputError, match="several nodes"):
        deployment(ray, "w8a8", Path("none"), PRICES, "cuda")


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gateway", str(EXAMPLE)), "no verdict.json here"),
        (("compose", str(EXAMPLE), "--scheme", "fp8"), "not among its schemes"),
        (("compose", "absent.yaml"), "no such file"),
        (("helm", str(EXAMPLE)), "helm"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Mistakes on the command line show one message and no traceback."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "render", *words, "--results", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def with_engine_args(tmp_path: Path, **arguments: Any) -> None:
    """Write the example experiment with these engine arguments."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["serving"]["engine_args"] = arguments
    (tmp_path / "exp.yaml").write_text(yaml.safe_dump(document))


def render_in(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `serving render k8s` in the folder."""
    argv = [sys.executable, "-m", "tokenhour", "serving", "render", "k8s", "exp.yaml", "--device", "cuda"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)


def test_engine_arguments_are_held_against_the_installed_engine_or_said_to_be_unchecked(tmp_path: Path) -> None:
    """A wrong engine argument is caught before deployment; without an engine a warning says it was not checked."""
    with_engine_args(tmp_path, max_lora=4)
    unchecked = render_in(tmp_path)
    assert unchecked.returncode == 0, unchecked.stderr
    assert "no engine is installed here: serving.engine_args were not checked" in unchecked.stderr
    engine = tmp_path / ".venv-engine"
    (engine / "lib/python3.11/site-packages/vllm-1.0.dist-info").mkdir(parents=True)
    (engine / "bin").mkdir()
    (engine / "bin/python").touch()
    known = {"--max-loras": {"takes_value": True, "kind": "int", "choices": []}}
    (engine / "arguments-vllm-1.0.json").write_text(json.dumps(known))
    refused = render_in(tmp_path)
    assert refused.returncode == 2
    assert "vllm 1.0 has no argument --max-lora" in refused.stderr
    assert refused.stdout == ""
    with_engine_args(tmp_path, max_loras=4)
    done = render_in(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--max-loras" in done.stdout


def get(url: str, method: str = "GET", context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Send a request and return status and body; errors have no body."""
    request = urllib.request.Request(url, b'{"max_tokens": 1}' if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine with its key in one file, as HAProxy wants it."""
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names, *files]
    subprocess.run(argv, check=True, capture_output=True)
    (folder / "server.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return folder / "server.pem"


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy (CI installs it)")
@pytest.mark.parametrize("tls", [False, True])
def test_the_routers_configuration_runs_lets_only_its_paths_through_and_survives_an_engine(
    tmp_path: Path, certificate: Path, tls: bool
) -> None:
    """A real HAProxy spreads load, blocks admin paths, ends TLS and survives the loss of one engine."""
    first, second, port, metrics = choose_ports("127.0.0.1", [0] * 4)
    engines_at = [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]
    text = fill("haproxy.cfg.j2", engines=engines_at, drain_s=1, tls=tls, resolved=False, router_port=port)
    text = text.replace("/certs/server.pem", str(certificate)).replace("bind :8404", f"bind 127.0.0.1:{metrics}")
    (tmp_path / "haproxy.cfg").write_text(text)
    context = ssl.create_default_context(cafile=str(certificate)) if tls else None
    engines = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.serving.fake_engine", str(each), "good"], cwd=ROOT, stdout=-3, stderr=-3
        )
        for each in (first, second)
    ]
    router = subprocess.Popen(["haproxy", "-f", str(tmp_path / "haproxy.cfg"), "-db"], stdout=-3, stderr=-3)
    try:
        deadline = time.monotonic() + 15
        url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        while True:
            try:
                ports = {json.loads(get(f"{url}/v1/completions", "POST", context)[1])["port"] for _ in range(4)}
                if ports == {first, second}:
                    break
            except (OSError, ValueError):
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for path in ("/tokenize", "/detokenize", "/sleep", "/metrics", "/v1/load_lora_adapter", "/v1/../sleep", "/docs"):
            assert get(url + path, "POST", context)[0] == 404
        assert get(f"http://127.0.0.1:{metrics}/metrics")[0] == 200
        if tls:
            with pytest.raises(OSError, match=r"."):
                get(f"http://127.0.0.1:{port}/health")
        engines[0].kill()
        engines[0].wait()
        assert {get(f"{url}/v1/completions", "POST", context)[0] for _ in range(10)} == {200}
    finally:
        for process in (router, *engines):
            process.kill()
            process.wait()
