"""A stand-in for the driver's libnvidia-ml.so.1, so that the real pynvml binding is exercised where no GPU is."""

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "stub.c"
NAME = "libnvidia-ml.so.1"
NOT_SUPPORTED, LOST = -3, -15


def build(folder: Path) -> Path:
    """Compile it into `folder` and return the library; under its name a process that has loaded it finds it again."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("no C compiler for the NVML stub")
    made = folder / NAME
    subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{NAME}", "-o", made, SOURCE], check=True)
    return made


def tell(folder: Path, state: dict[str, int]) -> Path:
    """Write what the stub answers from now on; return the file that NVML_STUB must name."""
    file = folder / "state.txt"
    file.write_text("".join(f"{key} {value}\n" for key, value in state.items()))
    return file
