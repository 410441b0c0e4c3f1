"""Experiment and manifest to argv: pure, so that every flag can be read here."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError
from tokenhour.machine.kernel_support import refuse_without_kernel
from tokenhour.serving.launch.argv import Launch, Place, Weights, places, plan, refuse_without_half, split


def experiment(model: dict[str, Any] | None = None, operations: dict[str, Any] | None = None, **serving: Any) -> Experiment:
    """Make a small experiment with these serving fields."""
    return Experiment.model_validate(
        {
            "name": "toy",
            "model": {"source": "./model", **(model or {})},
            "serving": {"max_model_len": 256, "max_num_seqs": 4, **serving},
            "operations": operations or {},
            "bench": {
                "workload": {"prompt": {"mean_tokens": 8}, "output": {"mean_tokens": 8}},
                "slo": {"percentile": 90, "ttft_s": 1},
            },
            "economics": {"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}]},
        }
    )


def launch(spec: Experiment, device: str = "cpu", scheme: str = "w8a8", cpus: int = 2, **place: Any) -> Launch:
    """Plan the start of a tiny model."""
    where = Place(device=device, port=8123, host=spec.serving.host, cpus=tuple(range(cpus)), **place)
    return plan(spec, Weights("/c/model", scheme, "Tiny"), where, "/py")


def value_of(argv: tuple[str, ...], flag: str) -> str:
    """Return the word that follows the flag."""
    return argv[argv.index(flag) + 1]


def test_the_model_the_port_and_the_limits_are_given() -> None:
    """The engine serves the checkpoint under a name with its scheme, within the experiment's limits."""
    found = launch(experiment())
    assert found.argv[:3] == ("/py", "-m", "vllm.entrypoints.openai.api_server")
    assert value_of(found.argv, "--model") == "/c/model"
    assert value_of(found.argv, "--served-model-name") == found.model_id == "Tiny-w8a8"
    assert value_of(found.argv, "--port") == "8123"
    assert value_of(found.argv, "--max-model-len") == "256"
    assert value_of(found.argv, "--max-num-seqs") == "4"
    assert found.base_url == "http://127.0.0.1:8123"


def test_only_loopback_and_no_remote_code_unless_asked() -> None:
    """Defaults are safe: no address but loopback, and no code from a repository."""
    found = launch(experiment())
    assert value_of(found.argv, "--host") == "127.0.0.1"
    assert "--trust-remote-code" not in found.argv
    assert "--trust-remote-code" in launch(experiment(model={"trust_remote_code": True})).argv
    assert launch(experiment(host="::1")).base_url == "http://[::1]:8123"


def test_a_cpu_uses_all_its_cores_and_a_gpu_its_memory_share() -> None:
    """Each device gets only its own settings."""
    cpu = launch(experiment(kv_cache_gib=1.5), cpus=4)
    assert cpu.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert cpu.environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert launch(experiment(), cpus=1).environment["VLLM_CPU_OMP_THREADS_BIND"] == "0"
    gpu = launch(experiment(gpu_memory_utilization=0.8, tensor_parallel_size=2), device="cuda")
    assert value_of(gpu.argv, "--gpu-memory-utilization") == "0.8"
    assert value_of(gpu.argv, "--tensor-parallel-size") == "2"
    assert not any(name.startswith("VLLM_CPU") for name in gpu.environment)


def test_prefix_caching_is_off_unless_said() -> None:
    """Caching would answer repeated prompts faster than new ones, so it must be asked for."""
    assert "--no-enable-prefix-caching" in launch(experiment()).argv
    assert "--enable-prefix-caching" in launch(experiment(prefix_caching=True)).argv


def test_free_arguments_keep_their_form() -> None:
    """Numbers, true and false become vLLM's flags, values and `--no-` switches."""
    argv = launch(experiment(engine_args={"max_loras": 512, "enable_lora": False, "async_x": True})).argv
    assert value_of(argv, "--max-loras") == "512"
    assert "--no-enable-lora" in argv
    assert "--async-x" in argv


@pytest.mark.parametrize(
    "name", ["port", "max_model_len", "api-key", "no-enable-prefix-caching", "seed", "enable_sleep_mode"]
)
def test_a_free_argument_with_a_field_of_its_own_is_refused(name: str) -> None:
    """Two places for one setting could contradict each other."""
    with pytest.raises(InputError, match="field of its own"):
        launch(experiment(engine_args={name: 1}))


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("hf_token", "hf_0123456789", "export HF_TOKEN"),
        ("hf-token", True, "export HF_TOKEN"),
        ("--hf-token", "hf_0123456789", "export HF_TOKEN"),
        ("config", "engine.yaml", "serving.engine_args"),
        ("config.port", 1, "serving.engine_args"),
    ],
)
def test_an_argument_that_would_show_a_secret_or_go_around_the_fields_is_refused(
    name: str, value: bool | int | str, remedy: str
) -> None:
    """Tokens on a command line are visible to every user, and a config file would bypass the checks."""
    with pytest.raises(InputError, match="is not taken") as caught:
        launch(experiment(engine_args={name: value}))
    assert remedy in caught.value.remedy
    assert "hf_0123456789" not in str(caught.value)


def test_a_scheme_without_a_kernel_is_refused_with_what_to_use() -> None:
    """A checkpoint that the device cannot run is rejected before loading, with schemes that work."""
    with pytest.raises(InputError, match="no kernel for gptq-int8 on cpu") as caught:
        launch(experiment(), scheme="gptq-int8")
    assert "w8a8" in caught.value.remedy
    assert launch(experiment(), scheme="gptq-int8", device="cuda")


def test_every_field_is_written_as_the_engines_argument() -> None:
    """No serving field is silently dropped on the way to vLLM."""
    argv = launch(
        experiment(
            max_num_batched_tokens=2048, kv_cache_dtype="fp8", chunked_prefill=True, dummy_weights=True, seed=7,
            tensor_parallel_size=2, pipeline_parallel_size=3, data_parallel_size=4, executor="ray", gpu_kv_cache_gib=2,
        ),
        device="cuda",
    ).argv  # fmt: skip
    for flag, value in {
        "--max-num-batched-tokens": "2048", "--kv-cache-dtype": "fp8", "--load-format": "dummy", "--seed": "7",
        "--tensor-parallel-size": "2", "--pipeline-parallel-size": "3", "--data-parallel-size": "4",
        "--distributed-executor-backend": "ray", "--data-parallel-backend": "ray", "--kv-cache-memory-bytes": str(2**31),
        "--shutdown-timeout": "30",
    }.items():  # fmt: skip
        assert value_of(argv, flag) == value
    assert "--enable-chunked-prefill" in argv
    assert "--no-enable-chunked-prefill" in launch(experiment(chunked_prefill=False)).argv


def test_what_is_not_said_leaves_the_engines_own_default() -> None:
    """Fields left out add no flag, so vLLM decides."""
    argv = launch(experiment()).argv
    for flag in (
        "--max-num-batched-tokens",
        "--kv-cache-dtype",
        "--load-format",
        "--tensor-parallel-size",
        "--enable-sleep-mode",
    ):
        assert flag not in argv
    assert not any("chunked" in word for word in argv)
    assert "--shutdown-timeout" not in launch(experiment(operations={"drain_s": 0})).argv


def test_secrets_are_apart_from_everything_that_is_shown() -> None:
    """The API key appears in no command line, printed plan or recorded environment."""
    spec = experiment()
    where = Place(device="cpu", port=1)
    found = plan(spec, Weights("/c/model", "w8a8", "Tiny"), where, "/py", {"VLLM_API_KEY": "sesame"})
    assert "sesame" not in repr(found)
    assert "sesame" not in " ".join(found.argv)
    assert "VLLM_API_KEY" not in found.environment
    assert found.secrets == {"VLLM_API_KEY": "sesame"}


def test_sleep_mode_brings_its_admin_endpoints_only_when_wanted() -> None:
    """The development endpoints of vLLM stay closed unless idle sleep needs them."""
    assert "VLLM_SERVER_DEV_MODE" not in launch(experiment()).environment
    found = launch(experiment(), device="cuda", sleep_mode=True)
    assert found.environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert "--enable-sleep-mode" in found.argv


@pytest.mark.parametrize(
    ("scheme", "capability", "refused"),
    [
        ("fp8", (7, 5), True), ("fp8", (8, 9), False), ("w8a8", (7, 0), True), ("w8a8", (9, 0), False),
        ("w8a8", (10, 0), True), ("w4a16", (7, 0), True),
    ],
)  # fmt: skip
def test_a_gpu_without_the_kernel_is_refused_with_what_to_use(
    scheme: str, capability: tuple[int, ...], refused: bool
) -> None:
    """Compute capability decides which schemes run, and the message names one that does."""
    if not refused:
        refuse_without_kernel(scheme, "cuda", capability)
        return
    with pytest.raises(InputError, match=r"no kernel for .* on a GPU of compute capability") as caught:
        refuse_without_kernel(scheme, "cuda", capability)
    assert "use " in caught.value.remedy


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 0), "half"), ((7, 5), "half"), ((8, 0), None), ((9, 0), None), (None, None)]
)
@pytest.mark.parametrize("scheme", ["none", "gptq-int4"])
def test_a_gpu_without_bf16_computes_in_half(capability: tuple[int, ...] | None, dtype: str | None, scheme: str) -> None:
    """GPUs before Ampere have no BF16, so vLLM is told to compute in float16."""
    (place,) = places(experiment(), "cuda", (1,), "127.0.0.1", (0,), ("0",), capability)
    argv = plan(experiment(), Weights("/c/model", scheme, "Tiny"), place, "/py").argv
    assert (value_of(argv, "--dtype") if "--dtype" in argv else None) == dtype


@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text", "glm4"])
def test_a_model_that_half_overflows_is_refused_where_there_is_no_bf16(kind: str) -> None:
    """Models that overflow in float16 are rejected on old GPUs unless the experiment sets another dtype."""
    config, serving = {"model_type": kind}, experiment().serving
    with pytest.raises(InputError, match=f"7.5 has no BF16, and vLLM does not compute {kind} in float16"):
        refuse_without_half(config, serving, (7, 5))
    refuse_without_half(config, serving, (8, 0))
    refuse_without_half(config, serving, None)
    refuse_without_half({"model_type": "llama"}, serving, (7, 5))
    refuse_without_half({}, serving, (7, 5))
    refuse_without_half(config, experiment(engine_args={"dtype": "float32"}).serving, (7, 5))


def test_replicas_share_the_cores_and_the_gpus() -> None:
    """No two replicas compute on the same core or GPU."""
    spec = experiment(replicas=2, tensor_parallel_size=2)
    found = places(spec, "cuda", (1, 2), "127.0.0.1", (0, 1, 2, 3), ("0", "1", "2", "3"))
    assert [place.gpus for place in found] == [("0", "1"), ("2", "3")]
    assert [place.cpus for place in found] == [(0, 1), (2, 3)]
    alone = places(experiment(tensor_parallel_size=2), "cuda", (1,), "127.0.0.1", (0,), ("0", "1"))
    assert alone[0].gpus is None
    assert places(experiment(), "cuda", (1,), "127.0.0.1", (0,), ("0", "1"))[0].gpus == ("0",)


@given(st.integers(1, 64), st.integers(1, 70))
@settings(deadline=None, max_examples=60)
def test_cores_are_split_without_loss_or_doubling(count: int, parts: int) -> None:
    """Every replica gets a core, and with enough cores each is used exactly once."""
    found = split(tuple(range(count)), parts)
    assert len(found) == parts
    assert all(found)
    if count >= parts:
        assert [core for part in found for core in part] == list(range(count))


def test_ranks_on_a_cpu_have_cores_of_their_own() -> None:
    """Tensor-parallel ranks on one CPU do not compete for the same cores."""
    found = launch(experiment(tensor_parallel_size=2), cpus=4)
    assert found.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1|2-3"


def test_dummy_weights_are_filled_with_random_numbers_by_our_plugin_and_real_ones_never() -> None:
    """The plugin that randomizes weights is loaded for dummy weights only."""
    made = launch(experiment(dummy_weights=True)).environment
    assert made["TOKENHOUR_RANDOM_BITS"] == "1"
    assert (Path(made["PYTHONPATH"]) / "tokenhour_random_bits.py").is_file()
    assert not {"TOKENHOUR_RANDOM_BITS", "PYTHONPATH"} & set(launch(experiment()).environment)
