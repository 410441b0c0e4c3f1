"""Experiment and manifest to argv: pure, so that every flag can be read here."""

import pytest

from contracts.errors import InputError
from contracts.experiment import Experiment
from serving.command import plan
from tests.records import checkpoint


def experiment(model=None, **serving):
    return Experiment.model_validate(
        {
            "name": "toy",
            "model": {"source": "./model", **(model or {})},
            "serving": {"max_model_len": 256, "max_num_seqs": 4, **serving},
            "bench": {
                "workload": {"prompt": {"mean_tokens": 8}, "output": {"mean_tokens": 8}},
                "slo": {"ttft_s": 1},
            },
            "economics": {"hardware": "c7i.large", "apis": [{"model": "m", "host": "h"}]},
        }
    )


def launch(spec, device="cpu", scheme="w8a8", cpus=2):
    return plan(spec, checkpoint(scheme=scheme, model_name="Tiny"), device, cpus, 8123, "/py")


def value_of(argv, flag):
    return argv[argv.index(flag) + 1]


def test_the_model_the_port_and_the_limits_are_given():
    found = launch(experiment())
    assert found.argv[:3] == ("/py", "-m", "vllm.entrypoints.openai.api_server")
    assert value_of(found.argv, "--model") == "/c/model"
    assert value_of(found.argv, "--served-model-name") == found.model_id == "Tiny-w8a8"
    assert value_of(found.argv, "--port") == "8123"
    assert value_of(found.argv, "--max-model-len") == "256"
    assert value_of(found.argv, "--max-num-seqs") == "4"
    assert found.base_url == "http://127.0.0.1:8123"


def test_only_loopback_and_no_remote_code_unless_asked():
    found = launch(experiment())
    assert value_of(found.argv, "--host") == "127.0.0.1"
    assert "--trust-remote-code" not in found.argv
    assert "--trust-remote-code" in launch(experiment(model={"trust_remote_code": True})).argv
    assert launch(experiment(host="::1")).base_url == "http://[::1]:8123"


def test_a_cpu_uses_all_its_cores_and_a_gpu_its_memory_share():
    cpu = launch(experiment(kv_cache_gib=1.5), cpus=4)
    assert cpu.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert cpu.environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert launch(experiment(), cpus=1).environment["VLLM_CPU_OMP_THREADS_BIND"] == "0"
    gpu = launch(experiment(gpu_memory_utilization=0.8, tensor_parallel_size=2), device="cuda")
    assert value_of(gpu.argv, "--gpu-memory-utilization") == "0.8"
    assert value_of(gpu.argv, "--tensor-parallel-size") == "2"
    assert not any(name.startswith("VLLM_CPU") for name in gpu.environment)


def test_prefix_caching_is_off_unless_said():
    assert "--no-enable-prefix-caching" in launch(experiment()).argv
    assert "--enable-prefix-caching" in launch(experiment(prefix_caching=True)).argv


def test_free_arguments_keep_their_form():
    argv = launch(
        experiment(engine_args={"max_num_batched_tokens": 512, "enable_chunked_prefill": False, "async_x": True})
    ).argv
    assert value_of(argv, "--max-num-batched-tokens") == "512"
    assert "--no-enable-chunked-prefill" in argv
    assert "--async-x" in argv


@pytest.mark.parametrize("name", ["port", "max_model_len", "api-key"])
def test_a_free_argument_with_a_field_of_its_own_is_refused(name):
    with pytest.raises(InputError, match="field of its own"):
        launch(experiment(engine_args={name: 1}))


def test_a_scheme_without_a_kernel_is_refused_with_what_to_use():
    with pytest.raises(InputError, match="no kernel for gptq-int8 on cpu") as caught:
        launch(experiment(), scheme="gptq-int8")
    assert "w8a8" in caught.value.remedy
    assert launch(experiment(), scheme="gptq-int8", device="cuda")
