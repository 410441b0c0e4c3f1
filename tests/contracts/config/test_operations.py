"""How a server is kept up: what may stand in the file and what may not."""

import pytest
from pydantic import ValidationError

from tokenhour.contracts.config.operations import OperationsSpec


@pytest.mark.parametrize("given", ["sk-0123456789abcdef", "lower_case", "1KEY", ""])
def test_a_key_in_the_place_of_its_variables_name_is_refused(given: str) -> None:
    """Nobody keeps a secret in an experiment by mistake: the file holds the name of a variable."""
    assert OperationsSpec(api_key_env="TOKENHOUR_KEY_2").api_key_env == "TOKENHOUR_KEY_2"
    with pytest.raises(ValidationError, match="api_key_env"):
        OperationsSpec(api_key_env=given)
