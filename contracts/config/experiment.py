"""One experiment: the YAML that a person writes and the resolved record that a run keeps.

History
    1  first version
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tokenhour.contracts.config.bench import BenchSpec, LengthSpec, WorkloadSpec
from tokenhour.contracts.config.economics import EconomicsSpec
from tokenhour.contracts.config.model_quantize import SCHEMES, ModelSpec, QuantizeSpec, is_shape
from tokenhour.contracts.config.operations import OperationsSpec
from tokenhour.contracts.config.serving import ServingSpec
from tokenhour.contracts.errors import nearest
from tokenhour.contracts.io.atomic_io import sha256_of
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.record import Record


class Experiment(Record):
    """Model, schemes, serving, load and economics of one question."""

    file_name: ClassVar[str] = "experiment.json"
    record: Literal["experiment"] = "experiment"
    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Lower case; the run folders are results/NAME-SCHEME and results/NAME."""
    description: str = ""
    model: ModelSpec
    schemes: Annotated[tuple[str, ...], Field(min_length=1)] = ("none",)
    """Precisions to compare; see `tokenhour quantize schemes`."""
    quantize: QuantizeSpec = QuantizeSpec()
    serving: ServingSpec = ServingSpec()
    operations: OperationsSpec = OperationsSpec()
    bench: BenchSpec
    economics: EconomicsSpec

    @field_validator("schemes")
    @classmethod
    def _known_schemes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scheme in value:
            if scheme not in SCHEMES:
                raise ValueError(f"unknown scheme {scheme!r}; {nearest(scheme, SCHEMES)}")
        if len(set(value)) != len(value):
            raise ValueError("names a scheme twice")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Experiment:
        if is_shape(self.model.source) and not self.serving.dummy_weights:
            raise ValueError("model.source is a shape without weights; set serving.dummy_weights: true, or name a model")
        load, limit = self.bench.workload, self.serving.max_model_len
        longest = longest_tokens(load)
        if longest > limit:
            raise ValueError(
                f"bench.workload asks for up to {longest} tokens, serving.max_model_len is {limit}; "
                "raise max_model_len or set max_tokens of prompt and output"
            )
        return self

    def run_name(self, scheme: str) -> str:
        """Name the run folder of one scheme."""
        return f"{self.name}-{scheme}"

    def section_sha256(self, *names: str) -> str:
        """Hash some sections, for lineage: a stage depends only on the sections that it reads."""
        return sha256_of({name: self.model_dump(mode="json")[name] for name in names})


def longest_tokens(load: WorkloadSpec) -> int:
    """Return the most tokens that a request can need, prompt and output; 0 where a file says it."""
    if load.prompt is None or load.output is None:
        return 0
    turns = load.conversations.turns if load.conversations else 1
    return turns * (_longest(load.prompt) + _longest(load.output))


def _longest(length: LengthSpec) -> int:
    return round(length.mean_tokens) if length.distribution == "fixed" else length.max_tokens


def load_experiment(path: Path) -> Experiment:
    """Read an experiment YAML (or a resolved experiment.json) and fill in the defaults.

    Raises InputError naming file:line, field, value and remedy.
    """
    return validate_yaml(Experiment, path)
