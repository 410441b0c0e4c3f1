"""The GPU list comes from the driver's own tool; a machine without it is one CPU accelerator."""

import pytest

from contracts import environment

SMI = """#!/bin/sh
printf 'NVIDIA H200, 143771, 570.86.15\\nNVIDIA H200, 143771, 570.86.15\\n'
"""


@pytest.fixture(autouse=True)
def _forget():
    environment.accelerator.cache_clear()
    yield
    environment.accelerator.cache_clear()


def tool(tmp_path, monkeypatch, script):
    file = tmp_path / "nvidia-smi"
    file.write_text(script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_gpus_are_counted_with_name_memory_and_driver(tmp_path, monkeypatch):
    tool(tmp_path, monkeypatch, SMI)
    found = environment.accelerator()
    assert (found.kind, found.name, found.count, found.driver) == ("cuda", "NVIDIA H200", 2, "570.86.15")
    assert found.memory_bytes == 143771 * 1024**2


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho nonsense\n"])
def test_a_driver_that_does_not_answer_means_the_cpu(tmp_path, monkeypatch, script):
    tool(tmp_path, monkeypatch, script)
    assert environment.accelerator().kind == "cpu"


def test_the_machines_hash_ignores_what_does_not_decide_speed():
    one = environment.capture("2026-01-01T00:00:00+00:00")
    two = environment.capture("2026-02-02T00:00:00+00:00", packages={"vllm": "1"})
    assert one.machine_sha256() == two.machine_sha256()
    assert two.packages["vllm"] == "1"
