"""Traces as they are published, and what a file of other columns lacks."""

from pathlib import Path

import pytest

from tests.bench.workload.conftest import write
from tokenhour.bench.workload.traces import load
from tokenhour.contracts.errors import InputError


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0,100,20\n",
            4808,
        ),
        ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,C\n6,G,0,0,0,C\n", 472),
        ('{"timestamp": 1000, "input_length": 6758, "output_length": 500, "hash_ids": [0]}\n', 6758),
    ],
    ids=["azure", "burstgpt", "mooncake"],
)
def test_the_public_trace_formats_are_read(tmp_path: Path, text: str, first: int) -> None:
    """Azure, BurstGPT and Mooncake traces are taken as published."""
    found = load(write(tmp_path, text))
    assert found.prompt_tokens[0] == first
    assert found.times_s is not None
    assert found.skipped == (1 if "BurstGPT" in text or ",G," in text else 0)
    if "ContextTokens" in text:
        assert found.times_s[1] - found.times_s[0] == pytest.approx(0.02004, abs=1e-6)
    if "hash_ids" in text:
        assert found.times_s[0] == 1.0


def test_a_trace_of_unknown_columns_names_what_is_missing(tmp_path: Path) -> None:
    """The user learns which columns to rename."""
    with pytest.raises(InputError, match="token counts are missing"):
        load(write(tmp_path, "a,b\n1,2\n"))
