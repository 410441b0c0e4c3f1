"""For how long something has been idle, over several scans."""

import subprocess
from collections.abc import Callable

from tests.serving.idle_scan.test_gpus import FAST, holders
from tokenhour.serving.idle_scan.history import History


def test_work_seen_once_begins_the_count_anew(gpu: Callable[..., None], idler: subprocess.Popen[bytes]) -> None:
    """One moment of work resets the idle time, so bursty jobs are not stopped."""
    held = [(idler.pid, 10 * 2**30)]
    gpu(processes=held)
    history = History()
    assert holders(FAST, history, 1000.0)[0].idle_s == 0
    assert holders(FAST, history, 1600.0)[0].idle_s == 600
    gpu(processes=held, utilization=80)
    assert holders(FAST, history, 1700.0)[0].idle_s == 0
    gpu(processes=held)
    assert holders(FAST, history, 1800.0)[0].idle_s == 0
