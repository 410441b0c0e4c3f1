"""A scenario: an economics question without an experiment, on measured summaries or on an assumed capacity.

History
    1  first version
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tokenhour.contracts.config.bench import SloSpec
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.io.atomic_io import sha256_of
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.record import Count, NotNegative, Part, Positive, Record


class AssumedCapacity(Part):
    """What one replica is said to serve, by somebody else's measurement or by hope; badged *assumed* everywhere."""

    name: str = "assumed"
    """What it is called in the report, such as "8B FP8 on one H100"."""
    source: str
    """Who says so, with a date where there is one."""
    kind: Literal["cuda", "cpu"] = "cuda"
    accelerators: Count = 1
    """Of one replica."""
    input_tokens_per_hour: NotNegative = 0.0
    """Per accelerator, at the latency objective, before headroom."""
    output_tokens_per_hour: Positive
    prompt_tokens: Positive
    """Mean of a request in that measurement."""
    output_tokens: Positive
    cold_start_s: NotNegative | None = None
    energy_j_per_output_token: Positive | None = None
    slo: SloSpec | None = None


class Scenario(Record):
    """Summaries or an assumed capacity, and the economics."""

    file_name: ClassVar[str] = "scenario.json"
    record: Literal["scenario"] = "scenario"
    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Lower case; the folder is results/NAME."""
    description: str = ""
    summaries: tuple[str, ...] = ()
    """Run folders (or their summary.json), relative to where the command runs."""
    assumed: AssumedCapacity | None = None
    economics: EconomicsSpec

    @model_validator(mode="after")
    def _one_origin(self) -> Scenario:
        if bool(self.summaries) == (self.assumed is not None):
            raise ValueError("give either summaries (measured runs) or assumed (a capacity that nobody measured here)")
        return self

    def section_sha256(self, *names: str) -> str:
        """Hash some sections, for lineage."""
        return sha256_of({name: self.model_dump(mode="json")[name] for name in names})


def load_scenario(path: Path) -> Scenario:
    """Read a scenario YAML; InputError names file:line, field, value and remedy."""
    return validate_yaml(Scenario, path)
