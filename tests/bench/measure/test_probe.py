"""A disturbed probe is measured again, and not the whole run."""

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench.rows import row
from tests.bench.summary.test_lag import RAISED, late
from tests.bench.summary.test_validity import BENCH, GOOD
from tokenhour.bench.measure import probe as sessions
from tokenhour.bench.measure.probe import Measured, MeasuringSession, Wish, run_undisturbed
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import LoadPoint

WISH = Wish("search", 10.0, rate_rps=1.0)


class Made:
    """Stands in for the processes: gives points one after the other."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, points: Iterable[LoadPoint], rows: Sequence[RequestRow] = ()
    ) -> None:
        self.points, self.rows = list(points), list(rows)
        self.wishes: list[Any] = []
        monkeypatch.setattr(sessions, "run_probe", self.run)
        crew = SimpleNamespace(priority=RAISED)
        target = SimpleNamespace(spec=BENCH)
        self.session = MeasuringSession(target, None, None, 0, "", crew)

    def run(self, _: object, wish: Wish) -> Measured:
        """Note the wish and return the next prepared point."""
        self.wishes.append(wish)
        return Measured(self.points.pop(0).model_copy(update={"probe": len(self.wishes) - 1}), self.rows)


def test_a_quiet_probe_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is spent on repeating a good measurement."""
    made = Made(monkeypatch, [GOOD])
    assert run_undisturbed(made.session, WISH).probe == 0
    assert made.wishes == [WISH]


def test_a_late_one_is_measured_again_in_its_place_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe with a late generator is repeated with the same settings, and the user reads the cause."""
    made = Made(monkeypatch, [late(waited_s=0.5), GOOD])
    assert run_undisturbed(made.session, WISH).probe == 1
    assert [w.instead_of for w in made.wishes] == [None, 0]
    assert (made.wishes[1].rate_rps, made.wishes[1].length_s) == (1.0, 10.0)
    assert "probe 0 was disturbed (client lag" in (said := capsys.readouterr().err)
    assert "waited 0.5 s" in said


def test_each_replaces_the_one_before_it_and_the_last_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two repeats the last probe stands, disturbed or not, and names what it replaces."""
    made = Made(monkeypatch, [late(), late(), late()])
    assert run_undisturbed(made.session, WISH).probe == 2
    assert [w.instead_of for w in made.wishes] == [None, 0, 1]


def test_a_run_measures_three_probes_again_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is always busy cannot prolong a run without end."""
    made = Made(monkeypatch, [late()] * 5)
    assert run_undisturbed(made.session, WISH).probe == 2
    assert run_undisturbed(made.session, WISH).probe == 4
    assert made.session.repeats == 3


@pytest.mark.parametrize("halves", [(100, 100), (100, 50)], ids=["steady", "drifting"])
def test_a_saturated_probe_whose_halves_differ_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, halves: tuple[int, ...]
) -> None:
    """Throughput that drifts within the window is no steady state, and is repeated."""
    point = GOOD.model_copy(update={"phase": "saturation", "arrivals": "closed", "window_start_s": 0.0, "window_s": 10.0})
    rows = [row(t, tokens=n) for start, n in zip((0.5, 5.5), halves, strict=True) for t in (start, start + 1)]
    made = Made(monkeypatch, [point, point, point], rows)
    run_undisturbed(made.session, Wish("saturation", 10.0, users=4))
    assert len(made.wishes) == (1 if halves[0] == halves[1] else 3)
