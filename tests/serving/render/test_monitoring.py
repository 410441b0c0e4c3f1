"""What watches a deployment asks for series that are there, under names that nobody has to guess."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.serving.render import monitoring
from tokenhour.serving.render.compose import render_compose
from tokenhour.serving.render.context import Deployment, deployment
from tokenhour.serving.render.kubernetes import render_kubernetes

# What is asked for of vLLM 0.32.0's /metrics, by its vllm/v1/metrics/loggers.py: counters end in _total, histograms have
# buckets. tests/engine holds these names against the page of a real server.
VLLM_SERIES = frozenset({
    "vllm:generation_tokens_total", "vllm:inter_token_latency_seconds_bucket", "vllm:kv_cache_usage_perc",
    "vllm:num_preemptions_total", "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:prompt_tokens_total",
    "vllm:request_success_total", "vllm:time_to_first_token_seconds_bucket",
})  # fmt: skip
# Of dcgm-exporter's default counters (etc/default-counters.csv).
DCGM_SERIES = frozenset({"DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_UTIL"})
# Grafana's ids of units that are in use.
UNITS = {"short", "currencyUSD", "percentunit", "percent", "s", "watt"}


def rules(own_job: bool = True) -> list[dict[str, Any]]:
    """List the Prometheus rules for a fleet at $2.95 an hour."""
    (group,) = monitoring.prometheus_rules(2.95, own_job=own_job)["groups"]
    return group["rules"]


def rendered(device: str) -> Deployment:
    """Return the example's deployment for a device."""
    return deployment(
        load_experiment(ROOT / "configs/experiments/h100-chat.yaml"), "w8a8", Path("none"), ROOT / "configs/prices", device
    )


def series(expression: str) -> set[str]:
    """Name the series of an expression: whatever has a colon, begins with DCGM_, or is `up`."""
    return set(re.findall(r"\b(?:\w+:\w+|DCGM_\w+|up(?=\{))", expression))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("own_job", [True, False])
def test_every_panel_rule_and_alert_names_only_series_that_are_there(device: str, own_job: bool) -> None:
    """A panel or alert on a series that nothing exports would stay silent forever."""
    recorded = {rule["record"] for rule in rules(own_job) if "record" in rule}
    there = VLLM_SERIES | recorded | (DCGM_SERIES if device == "cuda" else set()) | ({"up"} if own_job else set())
    board = json.loads(monitoring.dashboard(device))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for expression in (*asked, *(rule["expr"] for rule in rules(own_job))):
        assert series(expression), expression
        assert series(expression) <= there, expression
        assert expression.count("(") == expression.count(")")


def test_a_name_that_nothing_tells_is_noticed() -> None:
    """The check itself can fail."""
    assert not series("rate(vllm:generated_tokens_total[1m])") <= VLLM_SERIES
    assert series('count(up{job="vllm"}) * vllm:x') == {"up", "vllm:x"}


def test_the_dashboard_shows_what_an_operator_asks_for() -> None:
    """Throughput, cost, cache, queue and power are on the dashboard."""
    shown = monitoring.dashboard("cuda")
    for metric in (
        "tokenhour:output_tokens_per_s", "tokenhour:usd_per_hour", "tokenhour:usd_per_mtok", "vllm:kv_cache_usage_perc",
        "vllm:num_requests_waiting", "DCGM_FI_DEV_POWER_USAGE",
    ):  # fmt: skip
        assert metric in shown


def test_on_a_cpu_no_panel_is_empty() -> None:
    """DCGM tells of GPUs only."""
    assert "DCGM" not in monitoring.dashboard("cpu")
    for render in (render_compose, render_kubernetes):
        assert "DCGM" in render(rendered("cuda"))
        assert "DCGM" not in render(rendered("cpu"))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_dashboard_is_one_that_grafana_can_draw(device: str) -> None:
    """Panels have unique ids, known units and data sources, and do not overlap."""
    board = json.loads(monitoring.dashboard(device))
    assert set(board) == {"uid", "title", "schemaVersion", "refresh", "time", "panels"}
    sources, _ = monitoring.grafana_provisioning()
    known = {each["uid"] for each in sources["datasources"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert set(panel) == {"id", "type", "title", "datasource", "gridPos", "fieldConfig", "targets"}
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])} <= known
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, "Grafana's grid has 24 columns"
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, "panels lie over each other"
        cells |= mine


def test_prometheus_configuration_has_documented_keys_only() -> None:
    """prometheus.io/docs: configuration and recording_rules; the keys in use, spelled as there."""
    configuration = yaml.safe_load(yaml.safe_dump(monitoring.prometheus_config(["a:1", "b:1"], "router:2", "gpu:3")))
    assert set(configuration) == {"global", "rule_files", "scrape_configs"}
    assert set(configuration["global"]) == {"scrape_interval", "evaluation_interval"}
    for value in configuration["global"].values():
        assert re.fullmatch(r"\d+[smh]", value)
    for scrape in configuration["scrape_configs"]:
        assert set(scrape) == {"job_name", "static_configs"}
        assert all(set(each) == {"targets"} for each in scrape["static_configs"])
        assert all(re.fullmatch(r"[\w-]+:\d+", target) for each in scrape["static_configs"] for target in each["targets"])
    assert len({scrape["job_name"] for scrape in configuration["scrape_configs"]}) == 3


@pytest.mark.parametrize("own_job", [True, False])
def test_rules_have_documented_keys_only(own_job: bool) -> None:
    """Prometheus rejects a whole rule file for one unknown key."""
    document = monitoring.prometheus_rules(1.0, own_job=own_job)
    assert set(document) == {"groups"}
    for group in document["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) in ({"record", "expr"}, {"alert", "expr", "for", "annotations"})
            assert re.fullmatch(r"[a-zA-Z_:][\w:]*", rule.get("record") or rule["alert"])


def dollars(own_job: bool) -> str:
    """Return the expression that computes dollars an hour."""
    return next(rule["expr"] for rule in rules(own_job) if rule.get("record") == "tokenhour:usd_per_hour")


def test_dollars_an_hour_count_every_allocated_engine() -> None:
    """Every engine that Prometheus scrapes costs money, busy or idle."""
    assert dollars(own_job=True) == 'count(up{job="vllm"}) * 2.95'
    jobs = [each["job_name"] for each in monitoring.prometheus_config(["a:1"], None, None)["scrape_configs"]]
    assert jobs == ["vllm"], "the job that is counted"


def test_on_kubernetes_no_rule_waits_for_a_job_that_nobody_has_named() -> None:
    """Pods are found by their annotations, by a job of whoever runs Prometheus: dollars an hour had no data there."""
    text = render_kubernetes(rendered("cuda"))
    (config,) = [each for each in yaml.safe_load_all(text) if each["kind"] == "ConfigMap"]
    (group,) = yaml.safe_load(config["data"]["prometheus-rules.yaml"])["groups"]
    assert all("job=" not in rule["expr"] for rule in group["rules"])
    assert "count(count by (instance) (vllm:num_requests_running)) *" in dollars(own_job=False)
    assert "absent(vllm:num_requests_running)" in [rule["expr"] for rule in group["rules"]]
