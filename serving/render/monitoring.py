"""What watches a deployment: Prometheus' configuration and rules, and Grafana's dashboard, as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

DATASOURCE = "prometheus"
_BY_ENGINE = "{{instance}}"
# Ours to name in prometheus.yml: engines that do not answer are counted too.
OWN_JOB = 'up{job="vllm"}'
# Found by whatever job scrapes the pods' annotations. One for each address, however many engine copies tell of themselves
# there.
ANY_JOB = "count by (instance) (vllm:num_requests_running)"


def prometheus_config(engines: Sequence[str], router: str | None, gpus: str | None) -> dict[str, Any]:
    """Return prometheus.yml: engines, router and GPUs, every five seconds."""
    jobs = [("vllm", list(engines)), ("router", [router] if router else []), ("gpu", [gpus] if gpus else [])]
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": ["/etc/prometheus/rules.yml"],
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": targets}]} for name, targets in jobs if targets
        ],
    }


def prometheus_rules(usd_per_hour: float, *, own_job: bool) -> dict[str, Any]:
    """Return the recording rules and alerts.

    With `own_job` the scraping is prometheus_config's: dollars are paid for every engine that is allocated, whether it
    answers or not. Without, nobody knows what the job is called, and only engines that answer can be counted.
    """
    rules = {
        "tokenhour:output_tokens_per_s": "sum(rate(vllm:generation_tokens_total[1m]))",
        "tokenhour:input_tokens_per_s": "sum(rate(vllm:prompt_tokens_total[1m]))",
        "tokenhour:usd_per_hour": f"count({OWN_JOB if own_job else ANY_JOB}) * {usd_per_hour:.10g}",
        "tokenhour:usd_per_mtok": (
            "1e6 * tokenhour:usd_per_hour / 3600 / "
            "(sum(rate(vllm:generation_tokens_total[1m])) + sum(rate(vllm:prompt_tokens_total[1m])) > 0)"
        ),
    }
    records = [{"record": name, "expr": expression} for name, expression in rules.items()]
    down = (
        ("EngineDown", f"{OWN_JOB} == 0", f"{_escaped('instance')} does not answer")
        if own_job
        else ("NoEngineAnswers", "absent(vllm:num_requests_running)", "no engine answers, or nothing scrapes them")
    )
    alerts = [
        {"alert": down[0], "expr": down[1], "for": "1m", "annotations": {"summary": down[2]}},
        {
            "alert": "PinnedIdleWeights",
            "expr": "sum(increase(vllm:request_success_total[30m])) == 0 and tokenhour:usd_per_hour > 0",
            "for": "30m",
            "annotations": {"summary": "no request for an hour, and the engines are paid for"},
        },
    ]
    return {"groups": [{"name": "tokenhour", "rules": [*records, *alerts]}]}


def _escaped(label: str) -> str:
    return "{{ $labels." + label + " }}"


def dashboard(device: str) -> str:
    """Return the Grafana dashboard: tokens/s, dollars, KV cache, queue, latency; on GPUs power (nothing tells a CPU's)."""
    panels = [
        ("Tokens a second", "short", {"output": "tokenhour:output_tokens_per_s", "input": "tokenhour:input_tokens_per_s"}),
        ("Dollars an hour", "currencyUSD", {"allocated": "tokenhour:usd_per_hour"}),
        ("Dollars per million tokens, now", "currencyUSD", {"input and output": "tokenhour:usd_per_mtok"}),
        ("KV cache in use", "percentunit", {_BY_ENGINE: "vllm:kv_cache_usage_perc"}),
        (
            "Queue",
            "short",
            {f"waiting {_BY_ENGINE}": "vllm:num_requests_waiting", f"running {_BY_ENGINE}": "vllm:num_requests_running"},
        ),
        ("Preemptions a minute", "short", {_BY_ENGINE: "60 * rate(vllm:num_preemptions_total[1m])"}),
        ("Time to first token, p50 and p99", "s", _quantiles("vllm:time_to_first_token_seconds_bucket")),
        ("Between tokens, p50 and p99", "s", _quantiles("vllm:inter_token_latency_seconds_bucket")),
    ]
    if device == "cuda":
        panels += [
            ("Power", "watt", {"GPU {{gpu}}": "DCGM_FI_DEV_POWER_USAGE"}),
            ("GPU utilization", "percent", {"GPU {{gpu}}": "DCGM_FI_DEV_GPU_UTIL"}),
        ]
    return json.dumps(
        {
            "uid": "tokenhour",
            "title": "tokenhour",
            "schemaVersion": 39,
            "refresh": "5s",
            "time": {"from": "now-1h", "to": "now"},
            "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
        },
        indent=1,
    )


def _quantiles(metric: str) -> dict[str, str]:
    return {f"p{100 * share:.0f}": f"histogram_quantile({share}, sum by (le) (rate({metric}[1m])))" for share in (0.5, 0.99)}


def _panel(number: int, title: str, unit: str, expressions: dict[str, str]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": DATASOURCE}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend}
            for index, (legend, expression) in enumerate(expressions.items())
        ],
    }


def grafana_provisioning() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (data sources, dashboard providers) for Grafana's provisioning folder."""
    sources = {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": DATASOURCE,
                "type": "prometheus",
                "url": "http://prometheus:9090",
                "isDefault": True,
            }
        ],
    }
    providers = {
        "apiVersion": 1,
        "providers": [{"name": "tokenhour", "type": "file", "options": {"path": "/var/lib/grafana/dashboards"}}],
    }
    return sources, providers
