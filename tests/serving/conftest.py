"""The real pynvml on a stub of the driver."""

import ctypes
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import nvml

pynvml = importlib.import_module("pynvml")


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Load the stub under the driver's name, once for this process: the real pynvml then finds it."""
    made = nvml.build(tmp_path_factory.mktemp("nvml"))
    ctypes.CDLL(str(made))
    return made.parent


@pytest.fixture
def gpu(library: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what the driver of a machine with H100s answers; it takes processes=[(pid, bytes)], utilization=0 and so on."""
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def told(*gpus: dict[str, Any], **answers: Any) -> None:
        state = {"count.0": len(gpus or [answers])}
        for number, each in enumerate(gpus or [answers]):
            state |= {f"utilization.{number}": each.get("utilization", 0), f"memory.{number}": each.get("used", 0)}
            state |= {f"processes.{number}": nvml.LOST} if each.get("lost") else {}
            for which, (pid, size) in enumerate(each.get("processes", [])):
                state |= {f"pid{which}.{number}": pid, f"held{which}.{number}": size}
        monkeypatch.setenv("NVML_STUB", str(nvml.tell(library, state)))

    told()
    return told
