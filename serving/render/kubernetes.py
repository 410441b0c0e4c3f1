"""A deployment as Kubernetes manifests: engine pods with a router beside each engine, autoscaled on the queue."""

from __future__ import annotations

from typing import Any

from tokenhour.serving.render import monitoring
from tokenhour.serving.render.compose import dump_all
from tokenhour.serving.render.context import ENGINE_PORT, ROUTER_PORT, Deployment
from tokenhour.serving.render.haproxy import IMAGE, haproxy_config

_MOST_REPLICAS = 8
_QUEUE_METRIC = "vllm_num_requests_waiting"


def render_kubernetes(found: Deployment) -> str:
    """Return the manifests. The Secret with the API key and the claim with the checkpoints are made by hand, once."""
    name = found.name.replace(".", "-").replace("_", "-")[:50].rstrip("-")
    labels = {"app.kubernetes.io/name": "tokenhour", "app.kubernetes.io/instance": name}
    documents = [
        _config_map(name, labels, found),
        _deployment(name, labels, found),
        _service(name, labels),
        _network_policy(name, labels),
        _autoscaler(name, labels, found),
    ]
    if found.replicas > 1:
        documents.append(_disruption_budget(name, labels))
    return found.heading() + _usage(name) + dump_all(documents)


def _usage(name: str) -> str:
    return (
        "#\n"
        f'#   kubectl create secret generic {name} --from-literal=api-key="$(openssl rand -hex 32)"\n'
        f"#   a PersistentVolumeClaim `{name}-models` that holds the checkpoints (ReadOnlyMany)\n"
        f"#   prometheus-adapter with the rule in ConfigMap {name}, for the autoscaler's metric\n"
        "#   a Prometheus that scrapes pods by their annotations and loads the ConfigMap's rules, for the dashboard\n"
        "#   kubectl apply -f THIS\n"
    )


def _meta(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "labels": labels}


def _config_map(name: str, labels: dict[str, str], found: Deployment) -> dict[str, Any]:
    config = haproxy_config([f"127.0.0.1:{ENGINE_PORT}"], ROUTER_PORT, drain_s=found.drain_s, tls=found.tls)
    rules = monitoring.prometheus_rules(found.usd_per_hour, own_job=False)
    adapter = {
        "rules": [
            {
                "seriesQuery": 'vllm:num_requests_waiting{namespace!="",pod!=""}',
                "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
                "name": {"matches": "^vllm:num_requests_waiting$", "as": _QUEUE_METRIC},
                "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
            }
        ]
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _meta(name, labels),
        "data": {
            "haproxy.cfg": config,
            "prometheus-rules.yaml": dump_all([rules]),
            "prometheus-adapter.yaml": dump_all([adapter]),
            "dashboard.json": monitoring.dashboard(found.device),
        },
    }


def _deployment(name: str, labels: dict[str, str], found: Deployment) -> dict[str, Any]:
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": found.drain_s + 30,
        "containers": [_engine(name, found), _router(found)],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": f"{name}-models", "readOnly": True}},
            {"name": "config", "configMap": {"name": name}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}},
            *([{"name": "certs", "secret": {"secretName": f"{name}-tls"}}] if found.tls else []),
        ],
    }
    if found.gpus:
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(ENGINE_PORT), "prometheus.io/path": "/metrics"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(name, labels),
        "spec": {
            "replicas": found.replicas,
            "selector": {"matchLabels": labels},
            # A GPU is rarely free for a surge: one goes, one comes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "progressDeadlineSeconds": 2 * found.start_limit_s + 60,
            "template": {"metadata": {"labels": labels, "annotations": scraped}, "spec": pod},
        },
    }


def _engine(name: str, found: Deployment) -> dict[str, Any]:
    health = {"httpGet": {"path": "/health", "port": ENGINE_PORT}}
    memory = f"{found.memory_gib:.0f}Gi"
    resources: dict[str, Any] = {"requests": {"cpu": "4", "memory": memory}, "limits": {"memory": memory}}
    if found.gpus:
        resources["limits"]["nvidia.com/gpu"] = str(found.gpus)
    return {
        "name": "vllm",
        "image": found.image,
        "command": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
        "args": list(found.arguments),
        "env": [
            *({"name": key, "value": value} for key, value in found.environment.items()),
            {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": name, "key": "api-key"}}},
        ],
        "ports": [{"name": "engine", "containerPort": ENGINE_PORT}],
        "resources": resources,
        # The start may take twice what was measured; only then do the other probes begin.
        "startupProbe": {**health, "periodSeconds": found.probe_period_s, "failureThreshold": found.start_checks},
        "readinessProbe": {**health, "periodSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {**health, "periodSeconds": 10, "failureThreshold": 6, "timeoutSeconds": 5},
        # Endpoints forget the pod before it stops taking requests.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "volumeMounts": [
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 (the container's own)
        ],
        "securityContext": {"allowPrivilegeEscalation": False},
    }


def _router(found: Deployment) -> dict[str, Any]:
    return {
        "name": "router",
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": ROUTER_PORT}],
        "resources": {"requests": {"cpu": "250m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"tcpSocket": {"port": ROUTER_PORT}, "periodSeconds": 2},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "volumeMounts": [
            {
                "name": "config",
                "mountPath": "/usr/local/etc/haproxy/haproxy.cfg",
                "subPath": "haproxy.cfg",
                "readOnly": True,
            },
            *([{"name": "certs", "mountPath": "/certs", "readOnly": True}] if found.tls else []),
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 99,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(name, labels),
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }


def _network_policy(name: str, labels: dict[str, str]) -> dict[str, Any]:
    watchers = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}, "namespaceSelector": {}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(name, labels),
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress"],
            # Clients see the router's allow-list of paths; only Prometheus sees the engine.
            "ingress": [
                {"ports": [{"port": ROUTER_PORT, "protocol": "TCP"}]},
                {"from": [watchers], "ports": [{"port": ENGINE_PORT, "protocol": "TCP"}]},
            ],
        },
    }


def _autoscaler(name: str, labels: dict[str, str], found: Deployment) -> dict[str, Any]:
    # A replica that is there for less than its start costs was not worth starting.
    patience_s = min(3600, max(300, 4 * found.start_limit_s))
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(name, labels),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": found.replicas,
            "maxReplicas": max(_MOST_REPLICAS, 2 * found.replicas),
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": _QUEUE_METRIC},
                        "target": {"type": "AverageValue", "averageValue": str(max(1, found.max_num_seqs // 4))},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": patience_s,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
            },
        },
    }


def _disruption_budget(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(name, labels),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }
