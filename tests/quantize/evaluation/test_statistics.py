"""Quality figures against values worked out by hand, and against torch where torch computes them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.record import Interval
from tokenhour.contracts.records.checkpoint import TextRecord
from tokenhour.quantize.evaluation.statistics import WindowStats, assemble, bootstrap, listed_kl, perplexity, with_interval

TEXT = TextRecord(source="t", license="l", windows=3, window_tokens=4, seed=None, sha256="0")


def stats(
    nll: Any, original: Any, kl: Any = (0.1, 0.2, 0.3), top1: Any = (1.0, 0.9, 0.8), top_kl: Any = (0.1, 0.1, 0.2)
) -> WindowStats:
    """Make the figures of windows from plain lists."""
    return WindowStats(*(np.asarray(column, dtype=np.float64) for column in (nll, original, kl, top1, top_kl)))


def test_the_figures_are_means_and_exponentials_of_means() -> None:
    """Perplexity, ratio, divergence and agreement follow their textbook definitions."""
    found = assemble(stats([2.0, 3.0, 4.0], [2.0, 2.5, 3.0]), TEXT, QualityGate())
    assert found.perplexity.value == pytest.approx(math.exp(3.0))
    assert found.original_perplexity == pytest.approx(math.exp(2.5))
    assert found.perplexity_ratio == pytest.approx(math.exp(0.5))
    assert found.mean_kl_divergence.value == pytest.approx(0.2)
    assert found.top1_agreement.value == pytest.approx(0.9)
    assert found.gate == "none"


def test_one_window_has_no_interval() -> None:
    """A single window shows its value alone instead of a made-up interval."""
    found = assemble(stats([2.0], [1.5], [0.1], [0.9], [0.1]), TEXT, QualityGate())
    figures = (found.perplexity, found.mean_kl_divergence, found.top1_agreement, found.top_kl_divergence)
    assert all(figure.low is figure.high is None for figure in figures)
    assert found.perplexity.value == pytest.approx(math.exp(2.0))
    assert with_interval(found.mean_kl_divergence, ".2f") == "0.10"
    assert with_interval(Interval(value=0.1, low=0.05, high=0.2), ".2f") == "0.10 [0.05, 0.20]"


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_the_listed_kl_is_at_most_the_whole_one_and_with_all_tokens_listed_the_same(seed: int, listed: int) -> None:
    """The divergence over listed tokens never overstates the loss."""
    rng = np.random.default_rng(seed)
    log_p, log_q = (np.log(rng.dirichlet(np.full(30, 0.3)) * (1 - 1e-3) + 1e-3 / 30) for _ in range(2))
    whole = float((np.exp(log_p) * (log_p - log_q)).sum())
    chosen = np.argsort(-log_q)[:listed]
    found = float(listed_kl(log_p[chosen], log_q[chosen]))
    assert -1e-6 <= found <= whole + 1e-6
    if listed == 30:
        assert found == pytest.approx(whole, abs=1e-5)
    assert float(listed_kl(log_p[chosen], log_p[chosen])) == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(0.1, 8.0), min_size=2, max_size=40))
def test_an_interval_holds_its_value_and_never_leaves_the_data(values: list[float]) -> None:
    """Intervals stay within what was measured."""
    column = np.asarray(values)
    low, high = bootstrap(column)
    assert column.min() - 1e-9 <= low <= high <= column.max() + 1e-9
    found = perplexity(column)
    assert found.low <= found.high
    assert math.exp(column.min()) * (1 - 1e-9) <= found.value <= math.exp(column.max()) * (1 + 1e-9)


def test_the_bootstrap_interval_of_many_windows_is_near_the_normal_one() -> None:
    """With many windows the bootstrap agrees with classical statistics."""
    values = np.random.default_rng(1).normal(3.0, 0.5, 400)
    low, high = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
