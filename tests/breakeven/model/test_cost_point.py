"""Draws around one position, each against figures by hand."""

import numpy as np
import pytest

from tests.breakeven.positions import position
from tokenhour.breakeven.model.cost_point import Multiples, evaluate


def test_each_draw_has_the_saving_and_the_break_even_of_its_own_inputs() -> None:
    """2.5B tokens on three replicas of $1,000; the API at $1.3, at twice that, and at half, where no volume pays."""
    same = np.ones(3)
    found = evaluate(position(), Multiples(same, same, np.array([1.0, 2.0, 0.5]), same, same))
    assert found.saving_usd == pytest.approx([250, 3500, -1375])
    assert found.first_tokens[:2] == pytest.approx([1000 / 1.3e-6, 1000 / 2.6e-6])
    assert np.isnan(found.first_tokens[2])
