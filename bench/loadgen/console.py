"""What a load process hears from the one that measures, and says to it: a JSON line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent  # noqa: TID253 (part of the generator)
from gevent.fileobject import FileObject  # noqa: TID253

from tokenhour.bench.loadgen.probe_plan import ProbePlan


def say(message: dict[str, Any]) -> None:
    """Answer the measuring process."""
    print(json.dumps(message), flush=True)


def say_failed(greenlet: Any) -> None:
    """Tell of a greenlet's error, which gevent has printed: nobody else would, and the measuring process would wait."""
    say({"failed": f"the load generator failed: {greenlet.exception!r}"})


def obey(run: Callable[[ProbePlan], str], cancel: Callable[[], None]) -> None:
    """Take orders from standard input until it closes. `run` makes a probe and returns what went wrong, or nothing."""

    def answer(plan: ProbePlan) -> None:
        failed = run(plan)
        say({"failed": failed} if failed else {"done": plan.probe})

    for line in FileObject(sys.stdin.buffer, "rb"):
        order = json.loads(line)
        if order.get("cancel"):
            cancel()
        else:
            gevent.spawn(answer, ProbePlan.read(Path(order["plan"]))).link_exception(say_failed)
