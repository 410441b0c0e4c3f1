"""NVML's sessions and its two answers about memory, with a stand-in for the binding."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tokenhour.machine.nvml import memory, session


class NVMLError(Exception):
    """What the binding raises."""


def test_nvml_is_shut_down_however_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error within the block passes through, and leaves no session open."""
    calls: list[str] = []
    binding: Any = SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: calls.append("init"), nvmlShutdown=lambda: calls.append("shutdown")
    )
    monkeypatch.setitem(sys.modules, "pynvml", binding)
    with pytest.raises(KeyError), session():
        raise KeyError
    assert calls == ["init", "shutdown"]


def test_where_nvml_does_not_start_there_is_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a driver gets None, and nothing is shut down that never started."""

    def refuse() -> None:
        raise NVMLError

    binding: Any = SimpleNamespace(NVMLError=NVMLError, nvmlInit=refuse)
    monkeypatch.setitem(sys.modules, "pynvml", binding)
    with session() as found:
        assert found is None


@pytest.mark.parametrize(("old", "expected"), [(False, "version 2 of a GPU"), (True, "version 1 of a GPU")])
def test_a_driver_that_knows_only_the_first_answer_is_asked_for_it(old: bool, expected: str) -> None:
    """The second version is wanted, because the first counts what the driver keeps for itself as used."""

    def told(handle: str, version: int = 1) -> str:
        if old and version != 1:
            raise NVMLError
        return f"version {version} of {handle}"

    binding = SimpleNamespace(NVMLError_FunctionNotFound=NVMLError, nvmlMemory_v2=2, nvmlDeviceGetMemoryInfo=told)
    assert memory(binding, "a GPU") == expected
