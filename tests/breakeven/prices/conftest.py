"""What the packages say, read once."""

import pytest

from tests.breakeven.prices.seen import LITELLM, ON
from tokenhour.breakeven.prices.from_genai_prices import from_genai_prices
from tokenhour.breakeven.prices.from_litellm import from_litellm
from tokenhour.contracts.config.prices import ApiPrice


@pytest.fixture(scope="module")
def genai() -> list[ApiPrice]:
    """The package itself, as `pip install 'tokenhour[prices]'` brings it."""
    return list(from_genai_prices(None, ON))


@pytest.fixture(scope="module")
def litellm() -> list[ApiPrice]:
    """Entries of LiteLLM 1.110.2's file, as they stand there."""
    return list(from_litellm(LITELLM, ON))
