"""On what a run happened: machine, accelerators, packages, source revision.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.io.atomic_io import sha256_of
from tokenhour.contracts.record import Part, Record


class Accelerator(Part):
    """What a "GPU-hour" is counted on: GPUs, or the whole CPU host as one."""

    kind: Literal["cuda", "cpu"]
    name: str
    count: int
    """Of an environment: those in the machine. Of a server and what was measured on it: those that it uses."""
    memory_bytes: int
    """Of one accelerator; the host's memory for a CPU."""
    driver: str | None = None


class Environment(Record):
    """Host, accelerators, versions and source revision."""

    file_name: ClassVar[str] = "environment.json"
    record: Literal["environment"] = "environment"
    version: Literal[1] = 1
    cpu_model: str
    cpu_count: int
    cpu_flags: tuple[str, ...]
    """The instruction sets that decide which kernels run."""
    memory_bytes: int
    kernel: str
    python: str
    accelerator: Accelerator
    packages: dict[str, str]
    git_revision: str | None
    git_dirty: bool | None
    captured_utc: str

    def machine_sha256(self) -> str:
        """Hash what decides speed: a measurement is reused only on the machine that it was made on."""
        return machine_sha256(self.cpu_model, self.cpu_count, self.accelerator)


def machine_sha256(cpu_model: str, cpu_count: int, accelerator: Accelerator) -> str:
    """Hash CPU model, core count and accelerator.

    How many GPUs stand in the machine does not decide the speed of a server on some of them; how many it takes does, and
    is part of the experiment's `serving` section, which is hashed by itself.
    """
    return sha256_of([cpu_model, cpu_count, accelerator.kind, accelerator.name, 1])
