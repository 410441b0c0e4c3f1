"""The names under which a record lists the hashes of its inputs: each kind is built and parsed here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InputKind:
    """One kind of input, told by the prefix of its keys."""

    prefix: str

    def key(self, name: str) -> str:
        """Return the key of an input of this kind."""
        return f"{self.prefix}{name}"

    def among(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Return name and hash of every input of this kind, in order."""
        return {key.removeprefix(self.prefix): found for key, found in inputs.items() if key.startswith(self.prefix)}


SUMMARY = InputKind("summary:")
"""A run's summary, by its folder as seen from results/."""
IDLE = InputKind("idle:")
"""An idle record, by its file as seen from results/."""
PROFILE = InputKind("profile:")
"""A traffic profile or trace, by its path."""
PRICES = InputKind("prices/")
"""A price table, by its file's name."""
EXPERIMENT = InputKind("experiment.")
"""A section of an experiment."""
SCENARIO = InputKind("scenario.")
"""A section of a scenario."""
