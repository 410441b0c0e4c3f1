"""What the load generator is told of a probe: a file for the generator, a message for a worker that joined."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tokenhour.bench.target.openai_api import Dialect
from tokenhour.bench.workload.request_plan import Ask, as_rows, from_rows
from tokenhour.contracts.errors import InputError


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """One probe, or a worker's part of it."""

    raw: Path
    """The folder of its files (see `raw_files`)."""
    probe: int
    worker: int
    workers: int
    joined: bool
    """The workers are on other machines, and have folders of their own."""
    base_url: str
    model_id: str
    dialect: Dialect
    tokenizer: str | None
    """Its file; None where nobody knows it."""
    template_tokens: int
    key_env: str
    salt: str
    prefix_tokens: int
    think_s: float
    """Between the turns of a conversation."""
    concurrency: int | None
    """Users of a closed loop; None: arrivals have times."""
    cut: int
    """How many of a closed loop's first conversations end early, over all workers."""
    zero_ns: int
    """Zero of the run's clock, and `start_ns` that of the probe: both on the machine's monotonic clock."""
    start_ns: int
    horizon_s: float
    timeout_s: float
    inactivity_timeout_s: float
    talks: list[list[Ask]]
    """What is asked, conversation by conversation."""

    @classmethod
    def of(cls, found: dict[str, Any]) -> ProbePlan:
        """Read what `as_json` made. Raises InputError for unknown or missing keys."""
        if wrong := found.keys() ^ {f.name for f in fields(cls)}:
            raise InputError(
                f"its keys are not those of a plan: {', '.join(sorted(wrong))}",
                where="the plan of a probe",
                remedy="run the same version on all machines",
            )
        own = {"raw": Path(found["raw"]), "dialect": Dialect(**found["dialect"]), "talks": from_rows(found["talks"])}
        return cls(**found | own)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {"raw": str(self.raw), "dialect": asdict(self.dialect), "talks": as_rows(self.talks)}

    @classmethod
    def read(cls, file: Path) -> ProbePlan:
        """Read it from its file."""
        return cls.of(json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write it to its file."""
        file.write_text(json.dumps(self.as_json()), encoding="utf-8")

    def stripe(self, number: int) -> ProbePlan:
        """Return worker `number`'s part: every `workers`-th arrival, under the same clock."""
        return replace(self, worker=number, talks=self.talks[number :: self.workers])
