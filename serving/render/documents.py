"""A deployment as files: compose, Kubernetes and HAProxy, each from its template in templates/.

The router is HAProxy, which every registry has as one small official image. It lets an allow-list of paths through (those
that the engine guards with its key), checks each engine's /health, sends a refused request to another engine, ends TLS
where there is a certificate, and tells Prometheus how it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tokenhour.serving.proxy.server import ALLOWED
from tokenhour.serving.render.context import ENGINE_PORT, ROUTER_PORT, Deployment

# No front stands here to check the key: the engine does, and below /v1 only. What it answers without a key (/tokenize,
# /detokenize) stays inside; /health tells nothing.
PATHS = tuple(sorted({path for _, path in ALLOWED if path == "/health" or path.startswith("/v1/")}))
_CONSTANTS = {
    "engine_port": ENGINE_PORT,
    "metrics_port": 8404,
    "paths": PATHS,
    "queue_metric": "vllm_num_requests_waiting",
    "router_image": "haproxy:3.0-alpine",
    "router_port": ROUTER_PORT,
}


def fill(template: str, **values: Any) -> str:
    """Return a template of this package filled in; a value that it names and does not get is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701 (no HTML: values go through `quoted`)
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    # A JSON string is a YAML string, whatever is in it.
    environment.filters["quoted"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(template).render(_CONSTANTS | values)


def render_compose(found: Deployment) -> str:
    """Return compose.yaml. Secrets and the folder of checkpoints come from the environment when it is started."""
    configs = {
        "haproxy": "haproxy.cfg.j2",
        "prometheus": "prometheus.yaml.j2",
        "rules": "prometheus-rules.yaml.j2",
        "grafana-sources": "grafana-datasources.yaml.j2",
        "grafana-dashboards": "grafana-providers.yaml.j2",
        "dashboard": "dashboard.json.j2",
    }
    engines = [f"vllm-{number}:{ENGINE_PORT}" for number in range(found.replicas)]
    return fill("compose.yaml.j2", **_fleet(found, engines), configs=configs, own_job=True)


def render_kubernetes(found: Deployment) -> str:
    """Return the manifests: engine pods with a router beside each engine, autoscaled on the queue.

    The Secret with the API key and the claim with the checkpoints are made by hand, once.
    """
    configs = {
        "haproxy.cfg": "haproxy.cfg.j2",
        "prometheus-rules.yaml": "prometheus-rules.yaml.j2",
        "prometheus-adapter.yaml": "prometheus-adapter.yaml.j2",
        "dashboard.json": "dashboard.json.j2",
    }
    name = found.name.replace(".", "-").replace("_", "-")[:50].rstrip("-")
    engines = [f"127.0.0.1:{ENGINE_PORT}"]
    return fill("kubernetes.yaml.j2", **_fleet(found, engines), configs=configs, own_job=False, name=name)


def _fleet(found: Deployment, engines: Sequence[str]) -> dict[str, Any]:
    return {
        "found": found,
        "heading": found.heading(),
        "device": found.device,
        "usd_per_hour": found.usd_per_hour,
        "engines": engines,
        "drain_s": found.drain_s,
        "tls": found.tls,
        "resolved": any(not each.startswith("127.") for each in engines),
    }
