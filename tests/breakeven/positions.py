"""A run beside an API with round figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tokenhour.breakeven.model.cost_point import Position
from tokenhour.breakeven.model.replica_curve import Curve, Rules


def position(weights: Sequence[float] = (1.0,), rules: Rules | None = None, **changes: Any) -> Position:
    """A replica of $1,000 and 1B tokens a month, an API of $1.3 per M, 2.5B tokens today."""
    shape = np.array(weights, dtype=float)
    fields = {
        "curve": Curve(rules or Rules(), shape / shape.mean()),
        "machine_usd": 1000.0,
        "ops_share": 0.0,
        "ops_usd": 0.0,
        "other_usd": 0.0,
        "replica_tokens": 1e9,
        "api_usd_per_token": 1.3e-6,
        "tokens": 2.5e9,
    }
    return Position(**{**fields, **changes})
