"""How many processes make the load, and where they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tokenhour.contracts.errors import InputError

DEFAULT_PORT = 5557
WEB_UI_PORT = "TOKENHOUR_WEB_UI_PORT"
"""The environment variable that asks for Locust's web page, and on which port of 127.0.0.1."""
_FORM = re.compile(r"(?P<count>\d+)(?:@(?P<host>[^:]*)(?::(?P<port>\d+))?)?")


@dataclass(frozen=True, slots=True)
class Workers:
    """`count` load processes: on this machine, or joining at host:port from others."""

    count: int = 1
    host: str | None = None
    """Where to listen for workers of other machines; None: they are started here."""
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Workers:
        """Read N, N@HOST or N@HOST:PORT. Raises InputError."""
        found = _FORM.fullmatch(text.strip())
        count = int(found["count"]) if found else 0
        port = int(found["port"] or DEFAULT_PORT) if found else 0
        if found is None or not 1 <= count <= 1000 or not 0 < port < 1 << 16:
            raise InputError(
                f"--workers {text!r} is no number of load processes", where="bench", remedy="such as 4, or 4@0.0.0.0:5557"
            )
        return cls(count, found["host"] or None, port)

    def invitation(self) -> str:
        """Say how to join."""
        return f"run `tokenhour bench worker THIS_HOST:{self.port}` on each machine"

    @property
    def alone(self) -> bool:
        """One process that does everything."""
        return self.count == 1 and self.host is None
