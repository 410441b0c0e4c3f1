"""Lengths, prompts and arrivals come from seeds; a salt keeps runs apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.workload import arrival_rng, asks, lengths, poisson_arrivals, prompt
from contracts.bench_spec import LengthSpec, WorkloadSpec

TEXT = np.arange(1000, 6000)
SPEC = WorkloadSpec(
    prompt=LengthSpec(distribution="uniform", mean_tokens=50, min_tokens=20, max_tokens=80), output=LengthSpec(mean_tokens=8)
)


def test_poisson_arrivals_have_the_offered_rate_and_a_variation_of_one():
    times = poisson_arrivals(200.0, 100.0, np.random.default_rng(3))
    gaps = np.diff(times)
    assert len(times) / 100 == pytest.approx(200, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.05)
    assert times[-1] < 100


@given(st.floats(1, 500), st.floats(0, 2))
def test_lognormal_lengths_stay_inside_their_limits(mean, cv):
    spec = LengthSpec(distribution="lognormal", mean_tokens=mean, cv=cv, min_tokens=1, max_tokens=600)
    drawn = lengths(spec, 200, np.random.default_rng(0))
    assert drawn.min() >= 1
    assert drawn.max() <= 600


def test_lognormal_lengths_have_the_stated_mean():
    spec = LengthSpec(distribution="lognormal", mean_tokens=300, cv=0.5)
    assert lengths(spec, 50_000, np.random.default_rng(0)).mean() == pytest.approx(300, rel=0.02)


@given(st.integers(1, 300), st.integers(0, 5000), st.integers(0, 10**6))
def test_a_prompt_has_exactly_the_tokens_asked_for_and_only_ordinary_ones(length, start, serial):
    ids = prompt(TEXT, length, start, "salt", serial)
    assert len(ids) == length
    assert set(ids) <= set(TEXT.tolist())


def test_the_same_seed_gives_the_same_lengths_and_another_salt_other_prompts():
    one, two = (asks(SPEC, TEXT, 1, salt, 30) for salt in ("a", "b"))
    assert [len(a.prompt) for a in one] == [len(a.prompt) for a in two]
    assert all(a.prompt[:8] != b.prompt[:8] for a, b in zip(one, two, strict=True))
    assert len({tuple(a.prompt[:8]) for a in one}) == 30


def test_arrivals_do_not_depend_on_how_lengths_are_drawn():
    first = poisson_arrivals(10, 10, arrival_rng(7, 2))
    assert np.array_equal(first, poisson_arrivals(10, 10, arrival_rng(7, 2)))
    assert not np.array_equal(first[:5], poisson_arrivals(10, 10, arrival_rng(7, 3))[:5])
