"""One run as the economics see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tokenhour.contracts.records.verdict import CapacityOrigin, IdleMeasured


@dataclass(frozen=True, slots=True)
class Plant:
    """One run as the economics see it. `origin` is None when no tested rate met the SLO."""

    run: str
    scheme: str
    validity: Literal["VALID", "INVALID"]
    kind: Literal["cuda", "cpu"]
    accelerators: int
    prompt_tokens: float
    output_tokens: float
    origin: CapacityOrigin | None
    quality_gate: Literal["PASS", "FAIL", "none"] = "none"
    idle: IdleMeasured | None = None
