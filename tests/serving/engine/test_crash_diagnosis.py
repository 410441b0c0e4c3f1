"""Last words of real engines, and the cause that a person should read."""

import pytest

from tokenhour.serving.engine.crash_diagnosis import cause_of, quantization_of, tail


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", 1, "out of memory"),
        ("ValueError: Free memory on device (9.1/79.2 GiB) on startup is less than desired GPU memory", 1, "something else"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error", 1, "gated"),
        ("OSError: [Errno 98] Address already in use", 1, "port was taken"),
        ("OSError: [Errno 28] No space left on device", 1, "no space left"),
        ("ValueError: To serve at least one request, 9.0 GiB KV cache is needed, which is larger than", 1, "KV-cache"),
        ("api_server.py: error: unrecognized arguments: --frobnicate", 2, "does not know"),
        ("ValueError: Failed to find a kernel that can implement the WNA16 linear layer", 1, "cannot run the quantization"),
        ("safetensors_rust.SafetensorError: Error while deserializing header", 1, "damaged"),
        ("OSError: /c/model does not appear to have a file named config.json.", 1, "missing"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/c/model/config.json'", 1, "missing"),
        ("OSError: Can't load the configuration of '/c/model'.", 1, "missing"),
        ("huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error", 1, "does not exist"),
        ("", -9, "killed"),
        ("", 137, "killed"),
        ("something new", 1, "not one that is known"),
    ],
)
def test_the_cause_is_named_with_a_remedy(words: str, code: int, expected: str) -> None:
    """The last words of real engines map to a cause that a person can act on."""
    cause = cause_of(words, code)
    assert expected in cause.what
    assert cause.remedy


def test_too_little_kv_cache_has_a_remedy_for_a_cpu_and_for_a_gpu() -> None:
    """The remedy names both fields, because the log does not say which device ran out."""
    remedy = cause_of("ValueError: No available memory for the cache blocks. Try increasing", 1).remedy
    assert "serving.kv_cache_gib" in remedy
    assert "gpu_memory_utilization" in remedy


HARMLESS = "WARNING: cannot read /sys/x: No such file or directory\n"


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        ("safetensors_rust.SafetensorError: Error while deserializing header", 1, "damaged"),
        ("ValueError: something new", 1, "not one that is known"),
        ("INFO loading", -9, "killed"),
    ],
)
def test_a_harmless_warning_early_in_the_start_is_not_the_cause(words: str, code: int, expected: str) -> None:
    """An early warning that resembles an error does not hide the real end of the log."""
    assert expected in cause_of(HARMLESS + "INFO loading\n" * 300 + words, code).what


def test_a_cause_far_above_the_tracebacks_of_many_workers_is_found() -> None:
    """Long worker tracebacks after the cause do not bury it."""
    words = "torch.OutOfMemoryError: CUDA out of memory\n" + "  File worker.py\n" * 900
    assert cause_of(words, 1).what == "out of memory"


def test_the_tail_is_short_and_plain() -> None:
    """The quoted log is 15 lines without color codes, so it fits into an error message."""
    text = tail("\n".join(f"\x1b[36mline {n}\x1b[0m\n" for n in range(100)))
    assert text.splitlines()[-1] == "line 99"
    assert len(text.splitlines()) == 15


@pytest.mark.parametrize(
    ("log", "expected"),
    [("…, quantization=gptq, enforce_eager=True", "gptq"), ("quantization=None, x", None), ("no word of it", None)],
)
def test_the_quantization_in_use_is_read_from_the_log(log: str, expected: str | None) -> None:
    """The server record states which quantization the engine really used, if the log tells it."""
    assert quantization_of(log) == expected
