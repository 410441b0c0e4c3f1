"""What a load process hears and says: a JSON line each."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import gevent  # noqa: TID253 (what the console spawns)
import pytest

from tests.bench.plans import plan
from tokenhour.bench.loadgen.console import obey, say_failed
from tokenhour.bench.loadgen.probe_plan import ProbePlan


def test_an_error_of_several_lines_is_told_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    """The measuring process reads line by line."""
    say_failed(SimpleNamespace(exception=ValueError("one\ntwo")))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"failed": "the load generator failed: ValueError('one\\ntwo')"}


@pytest.mark.parametrize(("failed", "said"), [("", {"done": 7}), ("no route", {"failed": "no route"})])
def test_a_plan_is_run_and_answered_and_a_cancellation_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failed: str, said: dict[str, object]
) -> None:
    """Orders are taken until the input closes; the answer names the probe, or what went wrong."""
    plan(probe=7).write(tmp_path / "plan.json")
    ran: list[ProbePlan] = []
    cancelled: list[bool] = []

    def run(found: ProbePlan) -> str:
        ran.append(found)
        return failed

    orders = [{"plan": str(tmp_path / "plan.json")}, {"cancel": True}]
    reading, writing = os.pipe()
    os.write(writing, "".join(json.dumps(order) + "\n" for order in orders).encode())
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
        obey(run, lambda: cancelled.append(True))
        gevent.sleep(0.01)
    assert ran == [plan(probe=7)]
    assert cancelled == [True]
    assert json.loads(capsys.readouterr().out) == said
