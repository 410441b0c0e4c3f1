"""When requests come and how large they are: what `bench import-log` derives from a log and the economics plan fleets with.

History
    1  first version
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from tokenhour.contracts.record import NotNegative, Part, Positive, Record

HOURS_PER_WEEK = 168


class TokenMeans(Part):
    """Mean tokens of a request."""

    prompt: Positive
    cached: NotNegative = 0.0
    """Of the prompt tokens, those that the log says came from a cache."""
    completion: Positive


class TrafficProfile(Record):
    """A week's shape of demand, with the volume and the mix of its requests."""

    file_name: ClassVar[str] = "traffic.json"
    record: Literal["traffic"] = "traffic"
    version: Literal[1] = 1
    source: str
    """Where it comes from, such as the log's file name and format."""
    hourly_share: Annotated[tuple[NotNegative, ...], Field(min_length=HOURS_PER_WEEK, max_length=HOURS_PER_WEEK)]
    """Share of a week's tokens in each of its 168 hours, Monday 00:00 UTC first; they add up to 1."""
    hours_observed: Annotated[int, Field(ge=1)]
    """Clock hours between the log's first and last request; below 168 the rest of the week is assumed (see `assumed`)."""
    requests: Annotated[int, Field(ge=1)]
    """In the log."""
    requests_per_month: Positive
    """Scaled to 730 h."""
    tokens: TokenMeans
    peak_to_mean: Annotated[float, Field(ge=1)]
    """Busiest hour of the week over the mean hour."""
    first_utc: str | None
    """Of the log's first request; None where the log has no timestamps."""
    last_utc: str | None
    assumed: tuple[str, ...] = ()
    """What the log did not say and was assumed, such as the shape of days that it does not cover."""
    inputs: dict[str, str] = Field(default_factory=dict)
    """sha256 of the log."""

    @field_validator("hourly_share")
    @classmethod
    def _adds_up(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"the shares add up to {sum(value):.6f}, not 1")
        return value

    def tokens_per_month(self) -> float:
        """Input plus output tokens a month (730 h)."""
        return self.requests_per_month * (self.tokens.prompt + self.tokens.completion)
