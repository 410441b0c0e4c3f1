"""The minutes of a proof are a guarantee: whatever hangs or is slow, it ends in time, says what it left, goes on there.

The stages are stand-ins with a clock of their own: each takes what a test says, and a stop takes all of its grace.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.frontdoor.stand_ins import NAME, Stages, proof
from tokenhour.contracts.config.bench import SearchSpec
from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import OutOfTimeError
from tokenhour.contracts.standalone.gpu_benchmark import Proof, ProofStep
from tokenhour.frontdoor.gpu_benchmark import experiments as proof_plan
from tokenhour.frontdoor.gpu_benchmark import steps as proof_steps
from tokenhour.frontdoor.gpu_benchmark import time_budget

pytestmark = pytest.mark.system

SCHEMES = ("none", "w8a8", "w4a16")
FOREVER = 1e9
BEFORE_S = proof_plan.CERTIFIED_S + proof_plan.CALIBRATION_S
START_S, AFTER_S = 40.0, proof_plan.AFTER_MIX_S - time_budget.PLAIN_STOP_S - 0.01  # of three parts: a sum of thirds


class Timed(Stages):
    """Stages that take their time, on a clock that only they move."""

    def __init__(self, results: Path) -> None:
        super().__init__(results)
        self.clock = 0.0
        self.start_s = START_S
        self.ready_s = START_S - time_budget.STOP_S
        self.takes = {"breakeven": AFTER_S / 3, "report": AFTER_S / 3, "compare": AFTER_S / 3}
        self.hangs: set[str] = set()

    def __call__(self, arguments: tuple[str, ...], limit_s: float | None = None, stop_s: float = 0.0) -> int:  # type: ignore[override]
        """Let the stage's time pass, or end it at its limit."""
        takes = self.seconds(arguments)
        if limit_s is not None and takes > limit_s:
            self.clock += limit_s + stop_s
            raise OutOfTimeError(f"{arguments[0]} was ended", remedy="run the same command to go on")
        self.clock += takes
        return super().__call__(arguments)

    def seconds(self, arguments: Sequence[str]) -> float:
        """Return how long a stage takes, or forever where it hangs."""
        if self.hangs & {arguments[0], arguments[4] if arguments[0] == "serving" else ""}:
            return FOREVER
        if arguments[0] == "serving":
            return self.start_s + sum(time_budget.cost_s(load_experiment(Path(f)).bench.search) for f in arguments[13:])
        return self.takes.get(arguments[0], 0.0)


@pytest.fixture
def timed(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Put stages with a clock of their own in place of the plain stand-ins."""
    found = Timed(stages.results)

    def certified(_results: Path) -> tuple[None, str]:
        found.clock += BEFORE_S
        return None, "no compiler in this test"

    monkeypatch.setattr(proof_steps, "run_step", found)
    monkeypatch.setattr("tokenhour.bench.calibration.calibrate.certified", certified)
    monkeypatch.setattr(proof_steps.Session, "spent_s", lambda _session: found.clock)
    return found


def states(stages: Stages) -> dict[str, ProofStep]:
    """Return the steps of the kept record by name, and check that it is within its budget."""
    found = Proof.read(stages.results / NAME)
    assert found.spent_s <= found.budget_s
    return {step.name.removeprefix("measure: "): step for step in found.steps}


def test_with_everything_at_its_maximum_all_of_it_fits(timed: Timed) -> None:
    """Even when every step takes its longest, all precisions fit the minutes and the minutes are used."""
    done = proof(timed)
    assert done.exception is None, done.output
    assert [states(timed)[scheme].state for scheme in SCHEMES] == ["done"] * 3
    assert timed.clock > 0.9 * 9 * 60, "the minutes are used"


@pytest.mark.parametrize("hanging", SCHEMES)
def test_a_precision_that_hangs_is_ended_and_named_and_the_next_call_goes_on_there(timed: Timed, hanging: str) -> None:
    """A hanging precision costs only itself, and the next call measures just what is missing."""
    timed.hangs = {hanging}
    done = proof(timed)
    assert done.exit_code == 1
    assert f"measure: {hanging} (skipped)" in str(done.exception)
    steps = states(timed)
    assert steps[hanging].detail.startswith("not measured for time: serving was ended")
    measured = [scheme for scheme in SCHEMES if steps[scheme].state == "done"]
    assert measured[: SCHEMES.index(hanging)] == list(SCHEMES[: SCHEMES.index(hanging)])
    assert steps[f"verdict: {NAME}-chat"].state == ("done" if measured else "skipped")
    timed.hangs, timed.clock = set(), 0.0
    assert proof(timed).exception is None
    assert [states(timed)[scheme].state for scheme in SCHEMES] == [
        "reused" if scheme in measured else "done" for scheme in SCHEMES
    ]


@pytest.mark.parametrize("factor", [1.5, 2.5, 4.0])
def test_slow_starts_cost_precisions_and_never_the_minutes(timed: Timed, factor: float) -> None:
    """Slow starts drop precisions instead of overrunning the time, and further calls complete the proof."""
    timed.start_s *= factor
    timed.ready_s = timed.start_s - time_budget.STOP_S
    assert proof(timed).exit_code == 1
    steps = states(timed)
    assert steps["none"].state == "done"
    # The measured start has replaced the guess: what would not end in time is not begun.
    assert steps["w4a16"].detail.startswith("not measured for time: it takes up to")
    for _ in range(2):
        timed.clock = 0.0
        proof(timed)
        states(timed)
    assert Proof.read(timed.results / NAME).complete


def test_a_report_that_hangs_is_ended_as_well(timed: Timed) -> None:
    """A hanging report cannot overrun the time either, and its step is recorded as failed."""
    timed.hangs = {"report"}
    assert "verdict" in str(proof(timed).exception)
    assert states(timed)[f"verdict: {NAME}-chat"].state == "failed"


def test_slow_preparations_leave_less_for_measuring_and_stay_within_the_minutes(
    timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time lost in preparation is taken from the measurements, never added to the total."""

    def certified(_results: Path) -> tuple[None, str]:
        timed.clock += 300
        return None, "no compiler in this test"

    monkeypatch.setattr("tokenhour.bench.calibration.calibrate.certified", certified)
    assert proof(timed).exit_code == 1
    assert states(timed)["w4a16"].state == "skipped"


def test_what_was_measured_whole_and_hung_in_its_stop_counts(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measurement that was finished before its server hung still counts."""

    def hung(session: proof_steps.Session, experiments: Sequence[Experiment], scheme: str, _limit_s: float) -> None:
        files = [str(proof_steps.file_of(session, each)) for each in experiments]
        Stages.serve(timed, ("serving", "run", files[0], "--scheme", scheme, *[""] * 8, *files))
        raise OutOfTimeError("it was ended")

    monkeypatch.setattr(proof_steps, "serve", hung)
    timed.invalid = {"w8a8"}
    assert "measure: w8a8 (invalid)" in str(proof(timed).exception)
    assert [states(timed)[scheme].state for scheme in SCHEMES] == ["done", "invalid", "done"]


def test_a_kept_certificate_gives_its_time_to_the_windows_but_never_to_a_proof_that_was_begun_without(
    timed: Timed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows are inputs of every measurement: with others, what stands there would have to be measured again."""

    def search() -> SearchSpec:
        return load_experiment(timed.results / NAME / "chat.json").bench.search

    timed.hangs = {"w4a16"}
    proof(timed)
    begun = search()
    certificate = timed.results / "certificate"
    certificate.write_text("")
    monkeypatch.setattr("tokenhour.bench.calibration.calibrate.kept_at", lambda _results, _workers: certificate)
    timed.hangs, timed.clock = set(), 0.0
    assert proof(timed).exception is None
    assert search() == begun
    assert states(timed)["none"].state == "reused"
    timed.clock = 0.0
    proof(timed, "--minutes", "12")
    longer = search()
    work = proof_plan.work_of(proof_plan.Wanted("shape:tiny", "cpu", quick=True, instance=None), SCHEMES, certified=True)
    assert longer == time_budget.share_out(12 * 60, work).search
    assert time_budget.cost_s(longer) > time_budget.cost_s(begun)


def test_no_start_may_take_more_than_a_third_of_the_minutes(timed: Timed) -> None:
    """One slow start cannot use up the time of the other precisions."""
    proof(timed)
    assert load_experiment(timed.results / NAME / "chat.json").serving.ready_timeout_s == 180
