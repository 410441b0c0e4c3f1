"""Words are for people: who rewords every message of a measurement changes no figure, no verdict and no exit code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import records
from tests.bench.rows import row
from tests.bench.summary.conftest import BENCH, probe, samples
from tokenhour.bench.cli import _print, _run_noted
from tokenhour.bench.statistics import slo
from tokenhour.bench.summary import lag, load_point, notes, summarize, validity
from tokenhour.bench.summary.run_facts import Subject
from tokenhour.breakeven.inputs import capacity
from tokenhour.contracts.errors import TokenhourError, exit_code_of
from tokenhour.contracts.records.environment import Accelerator
from tokenhour.contracts.records.probe import CpuPriority, EngineCounters, Probe, Probes
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.records.summary import Reason, Summary
from tokenhour.machine.run_folder import RunDir

NOBODY = EngineCounters()
WATTS = {0: 50, 1: 100, 2: 400, 3: 100, 4: 100}
"""Of the host while each probe runs."""


def made(number: int, phase: str, rate: float | None, **changes: Any) -> Probe:
    """Make a probe that begins at 20 s times its number."""
    about: dict[str, Any] = {
        "phase": phase,
        "offered_rps": rate,
        "window_start_s": 20.0 * number,
        "started_s": 20.0 * number,
    }
    about |= {"arrivals": "closed" if rate is None else "poisson", "before": NOBODY, "after": NOBODY}
    return probe().model_copy(update={"probe": number, "drained_s": 20.0 * number + 11, **about, **changes})


def requests(number: int, rate: float = 10.0, **about: Any) -> list[RequestRow]:
    """Make the requests of its window."""
    begun = 20.0 * number
    rows = [row(begun + k / rate, probe=number, **about) for k in range(round(10 * rate))]
    return [replace(r, request_id=f"{number}-{k}") for k, r in enumerate(rows)]


def raw(*, rate: float = 10.0, ttft: float = 0.1, interrupted: str | None = None) -> summarize.Raw:
    """Make a search: saturated, a rate and its repeat that pass, a rate that fails, of which one probe was disturbed."""
    probes = Probes(
        clock_anchor_utc=records.WHEN,
        clock_zero_monotonic_s=0,
        salt="s",
        probes=(
            made(0, "saturation", None, concurrency=4),
            made(1, "search", rate),
            made(2, "confirm", rate),
            made(3, "search", 1.2 * rate),
            made(4, "search", 1.2 * rate, instead_of=3),
        ),
        wanted="search",
        interrupted=interrupted,
        interrupted_by="user" if interrupted else None,
        uncertified="generator uncertified: no calibration was asked for",
        cpu_priority=CpuPriority(action="neither", why="not permitted"),
    )
    energy, joules = [], 0
    for second in range(100):
        energy.append(joules)
        joules += WATTS[second // 20]
    rows = [
        *requests(0, 12.0),
        *requests(1, rate, ttft=ttft),
        *requests(2, rate, ttft=ttft),
        *requests(3, 1.2 * rate, lag=0.5),
        *requests(4, 1.2 * rate, ttft=3.0),
    ]
    telemetry = [*samples("process", "cpu_s_total", range(100)), *samples("host", "energy_j", energy, "0")]
    return summarize.Raw(probes, rows, telemetry)


def derived(found: summarize.Raw, said: tuple[str, ...] = ("lengths are approximate",)) -> Summary:
    """Derive the summary of a search on a CPU."""
    machine = Accelerator(kind="cpu", name="", count=1, memory_bytes=0)
    subject = Subject("run", "none", "model", "engine", machine, 1, BENCH, notes=said)
    return summarize.summarize(subject, found, {})


def reword(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put other words into every reason, cause, remedy and note; a code keeps its meaning."""

    def reason(**about: Any) -> Reason:
        words = {
            name: f"SLO interrupted INVALID {len(name)}" for name in ("rule", "measured", "limit", "explanation", "remedy")
        }
        return Reason(**{**about, **words})

    def judged(*about: Any) -> tuple[bool | None, tuple[str, ...]]:
        met, said = slo_reasons(*about)
        return met, tuple("not as wanted" for _ in said)

    note, finding, slo_reasons = notes.SummaryNote, lag.LagFinding, slo.slo_reasons
    monkeypatch.setattr(validity, "Reason", reason)
    monkeypatch.setattr(notes, "SummaryNote", lambda code, _text: note(code, "quite other words"))
    monkeypatch.setattr(summarize, "SummaryNote", lambda code, _text: note(code, "SLO and all"))
    monkeypatch.setattr(lag, "LagFinding", lambda cause, _why, _remedy: finding(cause, "because", "do otherwise"))
    monkeypatch.setattr(load_point, "slo_reasons", judged)


def without_words(found: Summary) -> dict[str, Any]:
    """Return everything of a summary but its words."""
    data = found.model_dump(mode="json", exclude={"warnings", "uncertified"})
    for one in (*data["load_curve"], *data["disturbed"]):
        one["slo_reasons"] = len(one["slo_reasons"])
    data["reasons"] = [(one["probe"], one["cause"]) for one in data["reasons"]]
    return data


def exit_code(found: Summary, folder: Path) -> int:
    """Return what `bench` ends with."""
    return exit_code_of(lambda: _print(found, folder))


@pytest.mark.parametrize(
    "about",
    [{}, {"rate": 30.0}, {"ttft": 3.0}, {"interrupted": "interrupted"}],
    ids=["searched", "other arrivals", "no rate passes", "interrupted"],
)
def test_who_rewords_every_message_changes_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, about: dict[str, Any]
) -> None:
    """Validity, capacity, points, codes, plant and exit code stay; the notes on the SLO stay as many."""
    before = derived(raw(**about))
    code = exit_code(before, tmp_path)
    reword(monkeypatch)
    after = derived(raw(**about), ("its SLO is not known",))
    assert after.warnings != before.warnings
    assert without_words(after) == without_words(before)
    assert exit_code(after, tmp_path) == code
    assert len(after.slo_warnings()) == len(before.slo_warnings())
    assert capacity.measured(after, "s") == capacity.measured(before, "s")


def test_every_warning_says_what_it_is_about() -> None:
    """A code a warning, in their order; those on the SLO are found by it."""
    found = derived(raw(ttft=3.0))
    assert len(found.warning_codes) == len(found.warnings)
    assert {"uncertified", "server", "no rate met the SLO", "shared CPU", "measured again"} <= set(found.warning_codes)
    assert [said for said in found.slo_warnings() if said.startswith("no tested rate met the SLO")]
    assert "lengths are approximate" not in found.slo_warnings()
    older = found.model_copy(update={"warning_codes": ()})
    assert older.slo_warnings() == found.slo_warnings()


def test_energy_and_power_are_those_of_the_probe_whose_tokens_count() -> None:
    """The repeat of the rate passed too, and took four times the power."""
    found = derived(raw())
    at = found.slo_point()
    assert at is not None
    assert (found.slo_probe, at.probe, at.offered_rps) == (1, 1, found.highest_passing_rps)
    assert found.energy_j_per_output_token == pytest.approx(1000 / (at.output_tps * at.window_s))
    origin = capacity.measured(found, "s").origin
    assert origin is not None
    assert origin.power_kw == pytest.approx(0.1)
    assert origin.energy_j_per_output_token == found.energy_j_per_output_token


def test_an_older_record_names_its_point_by_the_rule_that_chose_it() -> None:
    """The first stable probe that met the SLO at the highest passing rate, whatever came later or fell behind."""
    older = derived(raw()).model_copy(update={"slo_probe": None})
    assert (point := older.slo_point()) is not None
    assert point.probe == 1
    queue = [p.model_copy(update={"stable": False}) if p.probe == 1 else p for p in older.load_curve]
    assert (point := older.model_copy(update={"load_curve": tuple(queue)}).slo_point()) is not None
    assert point.probe == 2
    assert older.model_copy(update={"highest_passing_rps": None}).slo_point() is None


@pytest.mark.parametrize(("by", "state"), [("user", "interrupted"), ("failure", "done")])
def test_a_stop_is_told_from_a_failure_by_its_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str, state: str
) -> None:
    """The words of the reason say the opposite."""

    def measure(*_: Any) -> Summary:
        found = raw(interrupted="interrupted" if by == "failure" else "enough")
        found.probes.model_copy(update={"interrupted_by": by}).write(tmp_path)
        return derived(found)

    monkeypatch.setattr("tokenhour.bench.run.measure", measure)
    monkeypatch.setattr("tokenhour.bench.cli._draw_apart", lambda _: None)
    with pytest.raises(TokenhourError, match="INVALID"):
        _run_noted(None, RunDir(tmp_path), None, None, tmp_path)
    assert RunDir(tmp_path).status()["bench"].state == state
