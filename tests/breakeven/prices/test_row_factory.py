"""One name a model, and factors for batch only where they are given."""

from decimal import Decimal

import pytest

from tests.breakeven.prices.seen import row
from tokenhour.breakeven.prices.row_factory import canonical
from tokenhour.breakeven.prices.tables import TokenMix, request_usd
from tokenhour.contracts.config.prices import ApiPrice
from tokenhour.contracts.errors import InputError


def test_batch_factors_are_taken_where_they_are_given_and_never_made_up(
    genai: list[ApiPrice], litellm: list[ApiPrice]
) -> None:
    """gpt-4o-mini batch .075/.30, claude-haiku-4-5 batch .5/2.5; of Bedrock's batch genai-prices knows nothing."""
    for rows in (genai, litellm):
        mini = row(rows, "gpt-4o-mini", "openai")
        assert request_usd(mini, TokenMix(1e6, 0, batch_share=1.0)) == pytest.approx(0.075)
        assert request_usd(mini, TokenMix(0, 1e6, batch_share=1.0)) == pytest.approx(0.30)
    haiku = row(genai, "claude-haiku-4-5", "anthropic")
    assert request_usd(haiku, TokenMix(0, 1e6, batch_share=1.0)) == pytest.approx(2.5)
    assert haiku.cache_write == Decimal("1.25")
    bedrock = row(genai, "llama-3.1-8b-instruct", "bedrock")
    assert bedrock.batch.input is None
    with pytest.raises(InputError, match="no batch price"):
        request_usd(bedrock, TokenMix(1, 1, batch_share=0.5))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("meta.llama3-1-8b-instruct-v1:0", "llama-3.1-8b-instruct"),
        ("llama-3.1-8b-instant", "llama-3.1-8b-instruct"),
        ("fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-3.1-8b-instruct"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama-3.3-70b-instruct"),
        ("meta-llama/llama-3.1-8b-instruct-bf16", "llama-3.1-8b-instruct-bf16"),
        ("gpt-4o-mini", "gpt-4o-mini"),
    ],
)
def test_models_have_one_name(theirs: str, ours: str) -> None:
    """The hosts' different names for one model map to a single name, so their prices can be compared."""
    assert canonical(theirs) == ours
