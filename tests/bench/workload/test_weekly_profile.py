"""From tokens at times to the shape of a week."""

import numpy as np
import pytest

from tokenhour.bench.workload.weekly_profile import week_of


def test_a_bucket_that_is_not_aligned_gives_each_hour_its_part() -> None:
    """Tokens are shared by the time that the bucket spends in each hour."""
    at, until = np.asarray([1800.0]), np.asarray([3 * 3600.0])
    found = week_of(at, until, np.asarray([100.0]))
    thursday = 3 * 24  # 1970-01-01
    assert found.hours == 3
    shares = np.asarray(found.shares[thursday : thursday + 3])
    assert shares / shares.sum() == pytest.approx([0.2, 0.4, 0.4])
