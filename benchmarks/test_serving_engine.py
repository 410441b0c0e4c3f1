"""Real vLLM, alone and through `serving`, in pairs: what a start costs more, and that tokens cost nothing.

Needs .venv-engine and the demo's checkpoint: tokenhour quantize run configs/experiments/demo-quick.yaml --scheme none
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import numpy as np

from tokenhour.contracts.config.experiment import load_experiment
from tokenhour.machine.run_folder import RunDir
from tokenhour.serving.engine.readiness import ask
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.preflight import prepare
from tokenhour.serving.state import STATE_FILE, read_state

HOUSE = Path(__file__).parents[1]
EXPERIMENT = HOUSE / "configs/experiments/demo-quick.yaml"
ORDER = ("alone", "through", "through", "alone")
STREAMS, WINDOWS, WINDOW_S = 16, 4, 5.0


@contextlib.contextmanager
def alone(launch: Launch):
    child = subprocess.Popen(
        launch.argv, env={**os.environ, **launch.environment}, start_new_session=True, cwd=HOUSE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(60)


@contextlib.contextmanager
def through(experiment_file: Path):
    argv = [sys.executable, "-m", "tokenhour", "serving", "run", str(experiment_file), "--scheme", "none"]
    child = subprocess.Popen(argv, cwd=HOUSE, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.terminate()
        child.wait(60)


def until_answered(launch: Launch, limit_s=300.0):
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            ask(launch, 60)
            return
        time.sleep(0.05)
    raise TimeoutError


def until_declared(folder: Path, limit_s=300.0):
    """Wait until `serving` says that it is ready: its own first completion is done then, and server.json is written."""
    deadline = time.monotonic() + limit_s
    while (state := read_state(folder)) is None or state.state != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def tokens_per_s(launch: Launch):
    """Load it closed-loop; return the tokens a second of each window."""
    done = [0]

    async def stream(session, until):
        while time.monotonic() < until:
            body = {
                "model": launch.model_id,
                "prompt": "Once upon a time",
                "max_tokens": 64,
                "ignore_eos": True,
                "stream": True,
            }
            async with session.post(f"{launch.base_url}/v1/completions", json=body) as reply:
                async for line in reply.content:
                    done[0] += line.startswith(b'data: {"')

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session:
        until = time.monotonic() + 3 + WINDOWS * WINDOW_S
        streams = [asyncio.create_task(stream(session, until)) for _ in range(STREAMS)]
        await asyncio.sleep(3)
        found = []
        for _ in range(WINDOWS):
            before, began = done[0], time.monotonic()
            await asyncio.sleep(WINDOW_S)
            found.append((done[0] - before) / (time.monotonic() - began))
        await asyncio.gather(*streams)
        return found


def test_serving_costs_at_most_a_second_of_start_and_no_throughput(benchmark, tmp_path):
    experiment = load_experiment(EXPERIMENT)
    launch = prepare(experiment, "none", HOUSE / "results", HOUSE, verify=False).launches[0]
    port = int(launch.base_url.rsplit(":", 1)[1])
    fixed = experiment.model_copy(update={"serving": experiment.serving.model_copy(update={"port": port})})
    fixed.write(tmp_path)
    starts: dict[str, list[float]] = {"alone": [], "through": []}
    rates: dict[str, list[float]] = {"alone": [], "through": []}

    folder = RunDir.of(HOUSE / "results", fixed, "none").path

    def all_of_them():
        for how in ORDER:
            (folder / STATE_FILE).unlink(missing_ok=True)
            began = time.monotonic()
            with alone(launch) if how == "alone" else through(tmp_path / "experiment.json"):
                # One first completion each: here ours, there that of `serving` itself.
                until_answered(launch) if how == "alone" else until_declared(folder)
                starts[how].append(time.monotonic() - began)
                rates[how] += asyncio.run(tokens_per_s(launch))

    benchmark.pedantic(all_of_them, rounds=1)
    # The first start of all may pay for a cold cache of files: it must not count for us.
    added = min(starts["through"]) - min(starts["alone"])
    mean = {how: float(np.mean(found)) for how, found in rates.items()}
    error = float(np.sqrt(sum(np.var(found, ddof=1) / len(found) for found in rates.values())))
    benchmark.extra_info.update(starts=starts, rates=rates, added_s=added)
    print(f"\nstarts {starts}: {added:.2f} s more; tokens/s {mean} +- {error:.1f}; {rates}")
    assert added < 1.0
    assert mean["through"] > mean["alone"] - 2.5 * error - 0.01 * mean["alone"]
