"""Records as each version of the code wrote them, KIND-vVERSION.json: what they hold is readable for good."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import get_args

from tokenhour import contracts
from tokenhour.contracts.record import Record

GOLDEN = Path(__file__).parent


def kinds() -> list[type[Record]]:
    """Return every class of record in the contracts, by the name of its kind."""
    for module in pkgutil.walk_packages(contracts.__path__, f"{contracts.__name__}."):
        importlib.import_module(module.name)
    below = [Record]
    for kind in below:  # grows while it is walked
        below += kind.__subclasses__()
    found = {kind for kind in below[1:] if kind.__module__.startswith(f"{contracts.__name__}.")}
    return sorted(found, key=lambda kind: kind.kind())


def versions(kind: type[Record]) -> tuple[int, ...]:
    """Return the versions that a class of record reads, the newest last."""
    return tuple(sorted(get_args(kind.model_fields["version"].annotation)))


def file_of(kind: type[Record], version: int) -> Path:
    """Return where the golden of a kind and version is."""
    return GOLDEN / f"{kind.kind()}-v{version}.json"
