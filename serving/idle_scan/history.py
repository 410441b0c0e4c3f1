"""What earlier scans saw, in a small file, so that a scan from cron knows for how long something has been idle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from tokenhour.contracts.io.atomic_io import write_text_atomic

HISTORY_FILE = ".scan.json"


@dataclass(slots=True)
class History:
    """Since when (Unix seconds) something has been idle, by a key that a reused pid cannot share."""

    since: dict[str, float] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path) -> History:
        """Read it; one that is not there or is damaged begins anew."""
        try:
            data = json.loads(file.read_text())
            return cls(dict(data["since"]), dict(data["requests"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def idle_s(self, key: str, now_s: float, *, idle: bool) -> float:
        """Note whether `key` is idle now; return for how long it has been."""
        self.seen.add(key)
        if not idle:
            self.since.pop(key, None)
            return 0.0
        return now_s - self.since.setdefault(key, now_s)

    def write(self, file: Path) -> None:
        """Keep what was seen in this scan, forget what is gone."""
        kept = {key: value for key, value in self.since.items() if key in self.seen}
        asked = {key: value for key, value in self.requests.items() if key in self.seen}
        write_text_atomic(file, json.dumps({"since": kept, "requests": asked}))
