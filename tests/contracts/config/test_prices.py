"""A price says since when it holds, or that its source does not."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tokenhour.contracts.config.prices import ApiPrice, InstancePrice

SOURCED = {"checked_on": "2026-11-20", "source": "price list", "source_url": "https://example.com"}
API = {"model": "m", "host": "h", "input": "1", "output": "2", **SOURCED}
MACHINE = {
    "instance": "i", "cloud": "c", "region": "r", "accelerator": "H100", "kind": "cuda", "accelerators": 1, **SOURCED,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), [(ApiPrice, API), (InstancePrice, MACHINE | {"on_demand": "3"})])
def test_a_price_without_a_date_says_that_its_source_has_none(kind: type[BaseModel], fields: dict[str, Any]) -> None:
    """A forgotten date would otherwise look like a price that always held."""
    with pytest.raises(ValidationError, match="must say that the source is undated"):
        kind.model_validate(fields)
    kind.model_validate(fields | {"effective_from": "2026-01-01"})
    kind.model_validate(fields | {"source": "price list, undated"})


def test_a_machine_without_any_price_is_refused() -> None:
    """A row that cannot be bought in any way is a mistake of its editor."""
    dated = MACHINE | {"effective_from": "2026-01-01"}
    with pytest.raises(ValidationError, match="has no price"):
        InstancePrice.model_validate(dated)
    assert InstancePrice.model_validate(dated | {"spot": "0"}).name == "c i"
