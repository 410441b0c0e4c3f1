"""A deployment as one compose file: engines, router, Prometheus, Grafana; every configuration stands in it."""

from __future__ import annotations

from typing import Any

import yaml

from tokenhour.serving.render import monitoring
from tokenhour.serving.render.context import ENGINE_PORT, ROUTER_PORT, Deployment
from tokenhour.serving.render.haproxy import IMAGE, METRICS_PORT, haproxy_config

_HEALTH = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{ENGINE_PORT}/health', timeout=2)"


def render_compose(found: Deployment) -> str:
    """Return compose.yaml. Secrets and the folder of checkpoints come from the environment when it is started."""
    engines = [f"vllm-{number}:{ENGINE_PORT}" for number in range(found.replicas)]
    services: dict[str, Any] = {f"vllm-{number}": _engine(found, number) for number in range(found.replicas)}
    services["router"] = _router(found)
    gpus = "gpu-metrics:9400" if found.device == "cuda" else None
    if gpus:
        services["gpu-metrics"] = {
            "image": "nvidia/dcgm-exporter:4.2.0-4.1.0-ubuntu22.04",
            "cap_add": ["SYS_ADMIN"],
            "deploy": {
                "resources": {"reservations": {"devices": [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]}}
            },
            "networks": ["inside"],
            "restart": "unless-stopped",
        }
    services["prometheus"] = _prometheus()
    services["grafana"] = _grafana()
    sources, providers = monitoring.grafana_provisioning()
    contents = {
        "haproxy": haproxy_config(engines, ROUTER_PORT, drain_s=found.drain_s, tls=found.tls),
        "prometheus": _yaml(monitoring.prometheus_config(engines, f"router:{METRICS_PORT}", gpus)),
        "rules": _yaml(monitoring.prometheus_rules(found.usd_per_hour, own_job=True)),
        "grafana-sources": _yaml(sources),
        "grafana-dashboards": _yaml(providers),
        "dashboard": monitoring.dashboard(found.device),
    }
    document = {
        "name": found.name.replace(".", "-"),
        "services": services,
        # Engines and watchers reach nothing outside; only the router and Grafana can be reached.
        "networks": {"inside": {"internal": True}, "outside": {}},
        "volumes": {"prometheus": {}, "grafana": {}},
        # A dollar sign would be interpolated.
        "configs": {name: {"content": text.replace("$", "$$")} for name, text in contents.items()},
    }
    return found.heading() + _usage(found) + _yaml(document)


def _usage(found: Deployment) -> str:
    certs = " CERTIFICATES=/path/of/certs" if found.tls else ""
    return (
        "#\n"
        f"#   export VLLM_API_KEY=$(openssl rand -hex 32) GRAFANA_PASSWORD=... CHECKPOINTS=/path/of/checkpoints{certs}\n"
        "#   docker compose up --wait\n"
        "#\n"
        "# The router listens on loopback until BIND says otherwise; Grafana and Prometheus always do.\n"
    )


def _engine(found: Deployment, number: int) -> dict[str, Any]:
    service: dict[str, Any] = {
        "image": found.image,
        "entrypoint": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        "command": list(found.arguments),
        "environment": {**found.environment, "VLLM_API_KEY": "${VLLM_API_KEY:?a key of your own}"},
        "volumes": ["${CHECKPOINTS:?the folder of checkpoints}:/models:ro"],
        "networks": ["inside"],
        "shm_size": "8gb",
        "restart": "unless-stopped",
        "stop_grace_period": f"{found.drain_s + 15}s",
        "healthcheck": {
            "test": ["CMD", "python3", "-c", _HEALTH],
            "interval": "5s",
            "timeout": "3s",
            "retries": 2,
            "start_period": f"{found.start_limit_s}s",
            "start_interval": "1s",
        },
        "security_opt": ["no-new-privileges:true"],
    }
    if found.device == "cuda":
        devices = [str(number * found.gpus + index) for index in range(found.gpus)]
        reserved = {"driver": "nvidia", "device_ids": devices, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [reserved]}}}
    else:
        service["deploy"] = {"resources": {"limits": {"memory": f"{found.memory_gib:.0f}G"}}}
    return service


def _router(found: Deployment) -> dict[str, Any]:
    certificates = ["${CERTIFICATES:?the folder of server.pem}:/certs:ro"] if found.tls else []
    return {
        "image": IMAGE,
        "configs": [{"source": "haproxy", "target": "/usr/local/etc/haproxy/haproxy.cfg"}],
        **({"volumes": certificates} if certificates else {}),
        "ports": [f"${{BIND:-127.0.0.1}}:${{PORT:-{ROUTER_PORT}}}:{ROUTER_PORT}"],
        "networks": ["inside", "outside"],
        "depends_on": {f"vllm-{number}": {"condition": "service_healthy"} for number in range(found.replicas)},
        "restart": "unless-stopped",
        "stop_grace_period": f"{found.drain_s + 10}s",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }


def _prometheus() -> dict[str, Any]:
    return {
        "image": "prom/prometheus:v3.4.1",
        "configs": [
            {"source": "prometheus", "target": "/etc/prometheus/prometheus.yml"},
            {"source": "rules", "target": "/etc/prometheus/rules.yml"},
        ],
        "volumes": ["prometheus:/prometheus"],
        "networks": ["inside"],
        "restart": "unless-stopped",
    }


def _grafana() -> dict[str, Any]:
    return {
        "image": "grafana/grafana:12.0.1",
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:?a password for admin}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        },
        "configs": [
            {"source": "grafana-sources", "target": "/etc/grafana/provisioning/datasources/tokenhour.yaml"},
            {"source": "grafana-dashboards", "target": "/etc/grafana/provisioning/dashboards/tokenhour.yaml"},
            {"source": "dashboard", "target": "/var/lib/grafana/dashboards/tokenhour.json"},
        ],
        "volumes": ["grafana:/var/lib/grafana"],
        "ports": ["127.0.0.1:${GRAFANA_PORT:-3000}:3000"],
        "networks": ["inside", "outside"],
        "restart": "unless-stopped",
    }


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, so that a person can read them."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (yaml's signature)
        return True


_Dumper.add_representer(str, _Dumper.represent_text)


def _yaml(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def dump_all(documents: list[dict[str, Any]]) -> str:
    """Write several YAML documents into one file."""
    return "---\n".join(_yaml(document) for document in documents)
