"""A traffic profile is a whole week."""

import pytest

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.standalone.traffic_profile import HOURS_PER_WEEK, TrafficProfile

FIELDS = {
    "record": "traffic",
    "version": 1,
    "source": "a test",
    "hourly_share": [1 / HOURS_PER_WEEK] * HOURS_PER_WEEK,
    "hours_observed": 168,
    "requests": 100,
    "requests_per_month": 1000.0,
    "tokens": {"prompt": 300.0, "completion": 100.0},
    "peak_to_mean": 1.0,
    "first_utc": None,
    "last_utc": None,
}


def test_the_volume_follows_from_requests_and_their_size() -> None:
    """Monthly tokens are requests times their mean tokens, the figure that the economics multiply by prices."""
    assert TrafficProfile.parse(FIELDS, where="x").tokens_per_month() == 400_000


@pytest.mark.parametrize("shares", [[1.0], [2 / HOURS_PER_WEEK] * HOURS_PER_WEEK, [-1.0, *[2 / 167] * 167]])
def test_shares_that_are_no_week_are_refused(shares: list[float]) -> None:
    """The hourly shares must be 168 non-negative values that sum to one."""
    with pytest.raises(InputError, match="hourly_share"):
        TrafficProfile.parse({**FIELDS, "hourly_share": shares}, where="x")
