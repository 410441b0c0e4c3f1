"""What a deployment is made of: the start that was measured, and nothing of this machine."""

from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.records import checkpoint, server
from tests.serving.test_render import EXAMPLE, H100, PRICES, compose, example, kubernetes
from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.server import ColdStart
from tokenhour.machine.hardware import host
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.render.context import deployment
from tokenhour.serving.render.documents import render_compose, render_kubernetes


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


def test_ray_over_several_nodes_is_not_rendered() -> None:
    """A deployment over several nodes is rejected rather than rendered wrongly."""
    experiment = load_experiment(EXAMPLE)
    ray = experiment.model_copy(update={"serving": experiment.serving.model_copy(update={"executor": "ray"})})
    with pytest.raises(InputError, match="several nodes"):
        deployment(ray, "w8a8", Path("none"), PRICES, "cuda")
