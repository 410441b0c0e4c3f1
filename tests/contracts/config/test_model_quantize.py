"""Settings that nothing could pack or serve are refused when they are written."""

import pytest
from pydantic import ValidationError

from tests.quantize.model.test_layer_rules import spec
from tokenhour.contracts.config.model_quantize import QuantizeSpec


def test_groups_below_the_smallest_kernel_are_refused_when_they_are_written_not_when_they_are_read() -> None:
    """New experiments are held to today's kernels, while old records stay readable."""
    for fields in ({"group_size": 8}, {"overrides": [{"match": "a", "group_size": 8}]}):
        with pytest.raises(ValidationError, match="groups of 8 have no kernel: use one of 16, 32, 64, 128"):
            QuantizeSpec.model_validate(fields)
        QuantizeSpec.model_validate(fields, context={"recorded": True})


def test_an_ignored_pattern_has_to_be_a_regular_expression() -> None:
    """A broken pattern is rejected when the experiment is read."""
    with pytest.raises(ValidationError, match="is no regular expression"):
        spec(ignore=("re:*.mlp",))
