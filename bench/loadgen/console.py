"""What a load process says to the one that measures, a JSON line each."""

from __future__ import annotations

import json
from typing import Any


def say(message: dict[str, Any]) -> None:
    """Answer the measuring process."""
    print(json.dumps(message), flush=True)


def say_failed(greenlet: Any) -> None:
    """Tell of a greenlet's error, which gevent has printed: nobody else would, and the measuring process would wait."""
    say({"failed": f"the load generator failed: {greenlet.exception!r}"})
