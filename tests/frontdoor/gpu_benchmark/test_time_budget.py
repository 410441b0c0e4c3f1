"""The minutes of a proof: shared out whole, never overdrawn, refused when they cannot do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenhour.contracts.errors import InputError
from tokenhour.frontdoor.gpu_benchmark.experiments import MINUTES, SCHEMES, WITH_WEIGHTS, Wanted, schemes_for, work_of
from tokenhour.frontdoor.gpu_benchmark.time_budget import (
    LATEST,
    SHORTEST_S,
    STOP_S,
    Work,
    cost_s,
    deadline_s,
    fits,
    share_out,
    start_s,
)

WORKS = st.builds(
    Work,
    schemes=st.integers(1, 6),
    mixes=st.integers(1, 3),
    start_s=st.floats(1, 200),
    before_s=st.floats(0, 100),
    after_s=st.floats(0, 100),
    warmup_s=st.floats(0, 10),
    saturation_warmup_s=st.floats(0, 20),
)


@settings(max_examples=150, deadline=None)
@given(work=WORKS, budget=st.floats(60, 7200))
def test_what_is_shared_out_never_exceeds_the_budget(work: Work, budget: float) -> None:
    """The plan never exceeds the minutes given, and too few minutes are rejected with the number needed."""
    try:
        found = share_out(budget, work)
    except InputError as error:
        needed = 60 * float(error.remedy.split()[-2])
        assert needed > budget - 60
        assert share_out(needed + 1, work).total_s <= needed + 1
        return
    assert found.total_s <= budget
    assert found.search.max_probes >= 2
    assert found.search.max_probe_s >= SHORTEST_S - 0.2
    assert found.measurement_s == cost_s(found.search)


@settings(max_examples=60, deadline=None)
@given(work=WORKS, budget=st.floats(600, 7200))
def test_more_time_never_measures_less(work: Work, budget: float) -> None:
    """A larger budget never leads to fewer or shorter measurements."""
    try:
        less = share_out(budget, work)
    except InputError:
        return
    more = share_out(1.5 * budget, work)
    assert more.search.max_probes >= less.search.max_probes
    assert more.measurement_s >= less.measurement_s - 1.0


@pytest.mark.parametrize("quick", [True, False])
def test_the_promised_minutes_do_for_four_precisions_on_a_gpu(quick: bool) -> None:
    """The advertised minutes suffice for four precisions on a GPU and are nearly all used."""
    wanted = Wanted("shape:llama-3.1-8b", "cuda", quick, None)
    budget = 60 * MINUTES["quick" if quick else "full"]
    found = share_out(budget, work_of(wanted, SCHEMES))
    assert 0.9 * budget < found.total_s <= budget
    assert MINUTES == {"full": 20.0, "quick": 8.0}


@pytest.mark.parametrize(("quick", "minutes"), [(True, 3.1), (False, 9.5)])
def test_bitsandbytes_comes_on_top_of_the_promised_minutes(quick: bool, minutes: float) -> None:
    """Six precisions would not fit 20 minutes with windows that say anything: the four keep theirs."""
    wanted = Wanted("./Llama-3.1-8B-Instruct", "cuda", quick, None)
    schemes = schemes_for(wanted)
    budget = 60 * MINUTES["quick" if quick else "full"]
    assert [scheme for scheme in schemes if scheme not in WITH_WEIGHTS] == list(SCHEMES)
    each = share_out(budget, work_of(wanted, SCHEMES)).scheme_s
    assert len(WITH_WEIGHTS) * each == pytest.approx(60 * minutes, rel=0.1)
    if not quick:
        with pytest.raises(InputError, match="6 precisions"):
            share_out(budget, work_of(wanted, schemes))


def test_a_step_begins_only_when_it_also_ends_in_time() -> None:
    """Its own end by force is in its time as well."""
    assert fits(100, 50, 180 + STOP_S, 30)
    assert not fits(100, 51, 180 + STOP_S, 30)


def test_a_deadline_is_when_time_is_up_or_when_a_step_must_be_hanging() -> None:
    """A step ends when the time is up, or sooner when it takes so long that it must be hanging."""
    assert deadline_s(180, 50, left=100) == 100
    assert deadline_s(180, 50, left=1000) == 180 + LATEST * 50


def test_a_measured_start_replaces_the_guess() -> None:
    """Later steps are planned with the latest measured start instead of the initial guess."""
    assert start_s(45, ()) == 45
    assert start_s(45, (76, 30, 25)) == 25 + STOP_S


@pytest.mark.parametrize("quick", [True, False])
def test_no_start_may_eat_the_time_of_the_others(quick: bool) -> None:
    """A start may take a fixed part of the minutes, so that one slow server does not use them up."""
    budget = 60 * MINUTES["quick" if quick else "full"]
    found = share_out(budget, work_of(Wanted("shape:llama-3.1-8b", "cuda", quick, None), SCHEMES))
    assert found.ready_timeout_s == (180 if quick else budget / 3)


def test_a_kept_certificate_leaves_more_time_for_measuring() -> None:
    """Reusing a load generator certificate saves preparation time, which goes into longer measurements."""
    wanted = Wanted("shape:llama-3.1-8b", "cuda", quick=True, instance=None)
    without, with_one = (work_of(wanted, SCHEMES, certified=kept) for kept in (False, True))
    assert (without.before_s, with_one.before_s) == (55, 25)
    assert share_out(480, with_one).measurement_s > share_out(480, without).measurement_s + 5
