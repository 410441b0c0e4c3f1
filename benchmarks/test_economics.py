"""The economics engine against its limits: verdict, Monte Carlo, portfolio, growth with size, and the whole command."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.breakeven.model.test_uncertainty import ENDS
from tests.breakeven.positions import position
from tests.breakeven.scenarios import BASE, DAY, PRICES, decide, scenario
from tokenhour.breakeven.extras.portfolio_search import Costs, Feature, place
from tokenhour.breakeven.model.uncertainty import draw, monte_carlo, tornado
from tokenhour.breakeven.prices.tables import load_tables

TABLES = load_tables(PRICES)
APIS = [{"model": model, "host": host} for model, host in dict.fromkeys((row.model, row.host) for row in TABLES.apis)]
LINEAR = 1.15
"""Largest log-log slope of time by size that still counts as linear growth."""
SHAPES = {"flat": {}, "day, autoscaled": {"profile": {"hours": DAY}, "scaling": "autoscale"}}


def within(benchmark, limit_s):
    """Fail when even the fastest round was slower than the limit."""
    benchmark.extra_info["limit_s"] = limit_s
    assert benchmark.stats.stats.min < limit_s


@pytest.mark.parametrize("shape", SHAPES)
def test_a_verdict_against_12_comparators_takes_under_50_ms(benchmark, shape):
    asked = scenario(apis=APIS[:12], uncertainty={}, **SHAPES[shape])
    found = benchmark(decide, asked, TABLES)
    assert len(found.runs[0].comparisons) == 12
    assert found.runs[0].comparisons[0].monte_carlo.draws >= 2000
    within(benchmark, 0.050)


def test_100_000_draws_with_tornado_take_under_a_second(benchmark):
    at = position()

    def both():
        return monte_carlo(at, draw(ENDS, 100_000, 0), 0), tornado(at, ENDS)

    found, rows = benchmark(both)
    assert (found.draws, len(rows)) == (100_000, 5)
    within(benchmark, 1.0)


def features(count):
    rng = np.random.default_rng(0)
    shape = np.tile(np.array(DAY) / np.mean(DAY), 7)
    bills, sizes = rng.lognormal(5, 1.5, count), rng.lognormal(-3, 1, count)
    return [Feature(str(i), float(b), s * shape) for i, (b, s) in enumerate(zip(bills, sizes, strict=True))]


def test_a_portfolio_of_1000_features_takes_under_2_s(benchmark):
    found = benchmark(place, features(1000), Costs(5000, 1700, 1))
    assert len(found.moved) == 1000
    within(benchmark, 2.0)


def test_a_whole_portfolio_scenario_of_1000_features_takes_under_2_s(benchmark):
    """From the scenario to the verdict, every feature priced by its own API."""
    found = benchmark(decide, of_features(1000), TABLES)
    assert len(found.portfolio.placements) == 1000
    within(benchmark, 2.0)


def of_features(count):
    rng = np.random.default_rng(0)
    return scenario(
        {"input_tokens_per_hour": 2.7e7, "output_tokens_per_hour": 1.35e7},
        portfolio=[
            {
                "name": f"f{i}",
                "requests_per_month": float(rng.lognormal(12, 1.5)),
                "prompt_tokens": float(rng.integers(50, 5000)),
                "output_tokens": float(rng.integers(10, 900)),
                **APIS[i % len(APIS)],
            }
            for i in range(count)
        ],
    )


def many(count):
    """Return so many comparators: the tables' APIs, again with other tokenizers where the tables have too few."""
    return [{**APIS[i % len(APIS)], "tokens_ratio": 1 + 0.01 * (i // len(APIS))} for i in range(count)]


def slope(benchmark, sizes, work, rounds=15):
    """Return the log-log slope of the time by size: 1 when twice as much takes twice as long.

    The sizes take turns, so that a busy moment hits all of them, and the fastest of the rounds counts.
    """
    best = dict.fromkeys(sizes, math.inf)

    def turn():
        for size in sizes:
            begin = time.perf_counter()
            work(size)
            best[size] = min(best[size], time.perf_counter() - begin)

    benchmark.pedantic(turn, rounds=rounds, warmup_rounds=1)
    found = float(np.polyfit(np.log(sizes), np.log([best[size] for size in sizes]), 1)[0])
    told = ", ".join(f"{size}: {1e3 * s:.3g} ms" for size, s in best.items())
    benchmark.stats.group = f"slope {found:.3f} ({told})"
    benchmark.extra_info["slope"] = found
    return found


def test_a_portfolios_time_grows_linearly_in_features(benchmark):
    made = {count: features(count) for count in (250, 500, 1000)}
    assert slope(benchmark, tuple(made), lambda count: place(made[count], Costs(5000, 1700, 1))) <= LINEAR


def test_a_whole_portfolio_scenarios_time_grows_linearly_in_features(benchmark):
    made = {count: of_features(count) for count in (250, 500, 1000)}
    assert slope(benchmark, tuple(made), lambda count: decide(made[count], TABLES), rounds=7) <= LINEAR


@pytest.mark.parametrize("shape", SHAPES)
def test_a_verdicts_time_grows_linearly_in_comparators(benchmark, shape):
    made = {count: scenario(apis=many(count), uncertainty={}, **SHAPES[shape]) for count in (12, 24, 48)}
    assert [len(decide(one, TABLES).runs[0].comparisons) for one in made.values()] == list(made)
    assert slope(benchmark, tuple(made), lambda count: decide(made[count], TABLES)) <= LINEAR


def test_the_command_prints_its_verdict_within_1_5_s(benchmark, tmp_path):
    file = tmp_path / "asked.yaml"
    file.write_text(yaml.safe_dump({**BASE, "economics": {**BASE["economics"], "apis": APIS[:12], "uncertainty": {}}}))
    arguments = [str(Path(sys.executable).parent / "tokenhour"), "breakeven", "solve", str(file)]
    rounds = iter(range(1000))

    def command():
        out = ["--results", str(tmp_path / f"results-{next(rounds)}")]
        return subprocess.run([*arguments, *out], capture_output=True, text=True, check=True)

    done = benchmark.pedantic(command, rounds=5, warmup_rounds=1)
    assert "recompute by" in done.stdout
    within(benchmark, 1.5)
