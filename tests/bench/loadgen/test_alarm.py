"""Sleeping to absolute times: many sleepers, one timer."""

import time

import gevent  # noqa: TID253 (what the alarm wakes)
import pytest

from tokenhour.bench.loadgen.alarm import Alarm

MS = 1_000_000


@pytest.fixture(params=["timerfd", "without"])
def alarm(request: pytest.FixtureRequest) -> Alarm:
    """Return an alarm with the kernel's timer, and one without."""
    found = Alarm()
    if request.param == "without":
        found._fd = -1
    return found


def test_nobody_wakes_before_the_time_and_all_wake_in_its_order(alarm: Alarm) -> None:
    """Requests are never sent early, whichever order their greenlets went to sleep in."""
    now, woken = time.monotonic_ns(), []

    def sleep(due_ns: int) -> None:
        alarm.sleep_until(due_ns)
        woken.append((due_ns, time.monotonic_ns()))

    gevent.joinall([gevent.spawn(sleep, now + k * 5 * MS) for k in (7, 2, 9, 4, 2)], timeout=10, raise_error=True)
    assert [due for due, _ in woken] == sorted(due for due, _ in woken)
    assert len(woken) == 5
    # The loop's own timers round to their milliseconds; the kernel's never ring early.
    assert all(at >= due - (0 if alarm._fd >= 0 else MS) for due, at in woken)


def test_a_time_that_has_passed_returns_at_once(alarm: Alarm) -> None:
    """An overdue request is sent without another wait."""
    alarm.sleep_until(time.monotonic_ns() - 1)
    assert alarm._sleepers == []


def test_a_sleeper_that_is_killed_holds_up_nobody(alarm: Alarm) -> None:
    """Ending one user in its sleep does not delay the others' requests."""
    due = time.monotonic_ns() + 20 * MS
    first, second = gevent.spawn(alarm.sleep_until, due), gevent.spawn(alarm.sleep_until, due + 20 * MS)
    gevent.sleep(0)
    first.kill()
    second.join(10)
    assert second.successful()
    assert alarm._sleepers == []
