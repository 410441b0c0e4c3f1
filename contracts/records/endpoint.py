"""A server that somebody else runs: what `bench run --url` found there, and the load file that says how to measure it.

History
    1  first version
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tokenhour.contracts.config.bench import BenchSpec
from tokenhour.contracts.record import Count, Part, Record
from tokenhour.contracts.records.environment import Accelerator


class AcceleratorsSpec(Part):
    """What the endpoint runs on, as far as its user knows."""

    name: str
    kind: Literal["cuda", "cpu"] = "cuda"
    count: Count = 1


class Load(BenchSpec, Record):
    """A load file: the `bench` section of an experiment, for a server that is there already."""

    file_name: ClassVar[str] = "load.json"
    record: Literal["load"] = "load"
    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] = "endpoint"
    api: Literal["auto", "completions", "chat"] = "auto"
    """`auto` takes completions where the server has them: prompts of token ids are exact there."""
    tokenizer: str | None = None
    """Path of the served model's tokenizer.json: exact prompt lengths; without it they are approximate."""
    accelerators: AcceleratorsSpec | None = None
    """Without it, figures are those of the whole endpoint."""
    saturation_users: Count = 64
    """Requests at once in the probe that measures the peak."""


class Endpoint(Record):
    """An OpenAI-compatible endpoint as it answered before the load."""

    file_name: ClassVar[str] = "endpoint.json"
    record: Literal["endpoint"] = "endpoint"
    version: Literal[1] = 1
    base_url: str
    """Without /v1."""
    model_id: str
    api: Literal["completions", "chat"]
    engine: str
    """As /version or the Server header says; `unknown` elsewhere."""
    accelerator: Accelerator
    tokenizer: str | None
    token_ids: bool
    """It takes prompts as token ids."""
    continuous_usage: bool
    """It tells the tokens of each chunk."""
    exact_output: bool
    """It keeps to min_tokens and ignore_eos."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    engine_counters: bool
    """It offers vLLM's metrics: tokens can be cross-checked."""
    template_tokens: int
    """What a chat template adds to a prompt."""
    degraded: tuple[str, ...]
    """What cannot be measured exactly there, and how it is measured instead."""
    probed_utc: str
