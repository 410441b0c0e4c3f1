"""The `operations` section of an experiment: how a server is kept up. Nothing in it changes what is measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tokenhour.contracts.record import Count, NotNegative, Part, Positive

IdlePolicy = Literal["none", "sleep-1", "sleep-2", "stop"]


class IdleSpec(Part):
    """What becomes of the weights when nobody asks."""

    policy: IdlePolicy = "none"
    """`sleep-1`: weights to host memory. `sleep-2`: dropped, read again. `stop`: the engine ends; the GPU is free."""
    after_s: Positive = 600.0
    """Without a request for so long."""
    max_waiting: Count = 10_000
    """Requests that are held during a wake; one more is refused with 503."""
    wake_timeout_s: Positive = 600.0
    """A request that was held for so long is refused with 503."""


class RestartSpec(Part):
    """Whether a crashed engine is started again, and how patiently."""

    max_restarts: Annotated[int, Field(ge=0)] = 0
    """In a row; 0 never. An engine that never became ready is not started again."""
    backoff_s: Positive = 1.0
    """Before the first; doubled each time."""
    max_backoff_s: Positive = 60.0
    reset_after_s: Positive = 600.0
    """An engine that stayed up for so long has all its restarts again."""


class LogSpec(Part):
    """The engine's log."""

    max_mib: Positive = 64.0
    """Then it is moved to server.log.1, and so on."""
    keep: Annotated[int, Field(ge=0)] = 3
    """Older logs that are kept."""


class OperationsSpec(Part):
    """How a server is kept up, reached and stopped."""

    idle: IdleSpec = IdleSpec()
    restart: RestartSpec = RestartSpec()
    log: LogSpec = LogSpec()
    drain_s: Annotated[int, Field(ge=0)] = 30
    """Seconds that running requests have to end when the server is told to stop."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = None
    """The environment variable that holds the API key; clients send it as `Authorization: Bearer`."""
    tls_certificate: str | None = None
    """PEM file with the certificate chain; makes the endpoint HTTPS."""
    tls_key: str | None = None
    """PEM file with the private key; absent: it stands in the certificate's file."""
    keepalive_s: NotNegative = 75.0
    """How long the front keeps a client's idle connection."""
