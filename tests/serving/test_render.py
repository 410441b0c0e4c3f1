"""Deployments from the same experiment: valid by the public schemas, safe by default, and true to what was measured."""

import importlib.resources
import json
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
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.serving.launch.engine_env import choose_ports
from tokenhour.serving.render.context import Deployment, deployment
from tokenhour.serving.render.documents import fill, render_compose, render_kubernetes

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
