"""Sleeping to absolute times: the event loop counts milliseconds, a timerfd of the kernel is exact to its wake-up.

Part of the generator's process. One timer serves all sleepers; where there is none (no Linux) the loop's own serve. What a
wake-up takes (some 0.05 ms on an idle virtual machine) is learnt, and the timer set earlier by as much: with it, of arrivals
that come within that time all but the first would go in one burst. Who wakes too early waits the rest out, 0.1 ms at most.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import os
import time
from typing import Any

import gevent  # noqa: TID253 (part of the generator)
from gevent.hub import Waiter  # noqa: TID253

_CLOCK_MONOTONIC = 1  # that of time.monotonic_ns
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000
_ABSOLUTE = 1
_READ = 1  # as the event loop counts
_NS = 1_000_000_000
_STEP_NS = 1_000  # how fast a wake-up's time is learnt
_NEAR_NS = 100_000  # nearer than any wake-up: waited out
_LONGEST_TURN_NS = 2_000_000  # of a burst, before what has come is read


class _Setting(ctypes.Structure):
    """A struct itimerspec: no interval, and when to ring."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Alarm:
    """Wakes greenlets at times of the monotonic clock."""

    def __init__(self) -> None:
        self._early_ns = self._turn_ns = 0
        self._sleepers: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()
        self._libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC))
        except AttributeError:
            self._fd = -1
        if self._fd >= 0:
            self._watcher = gevent.get_hub().loop.io(self._fd, _READ)
            self._watcher.start(self._ring)

    def sleep_until(self, due_ns: int) -> None:
        """Return at `due_ns`, or soon after. Who asks for one near time after the other lets others have their turn, too."""
        now_ns = time.monotonic_ns()
        if due_ns - now_ns > _NEAR_NS:
            self._sleep(due_ns, due_ns - now_ns)
        elif now_ns - self._turn_ns > _LONGEST_TURN_NS:
            gevent.sleep(0)
            self._turn_ns = time.monotonic_ns()
        while time.monotonic_ns() < due_ns:
            pass

    def _sleep(self, due_ns: int, left_ns: int) -> None:
        if self._fd < 0:
            gevent.sleep(left_ns / _NS)
        else:
            woken = Waiter()
            heapq.heappush(self._sleepers, (due_ns, next(self._numbers), woken))
            if self._sleepers[0][2] is woken:
                self._set(due_ns)
            woken.get()
            self._learn(due_ns - time.monotonic_ns())
        self._turn_ns = time.monotonic_ns()

    def _learn(self, left_ns: int) -> None:
        """Move towards the median of what a wake-up takes."""
        self._early_ns += -_STEP_NS if left_ns > 0 else _STEP_NS
        self._early_ns = min(max(self._early_ns, 0), _NEAR_NS)

    def _set(self, due_ns: int) -> None:
        setting = _Setting(0, 0, *divmod(due_ns - self._early_ns, _NS))
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # set anew since it rang
            os.read(self._fd, 8)
        now = time.monotonic_ns() + self._early_ns
        while self._sleepers and self._sleepers[0][0] <= now:
            heapq.heappop(self._sleepers)[2].switch(None)
        if self._sleepers:
            self._set(self._sleepers[0][0])
