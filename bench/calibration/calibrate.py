"""The generator measured against a deterministic server: how exact its times are, and how much it can follow."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tokenhour.bench.calibration import reference_server
from tokenhour.bench.calibration.reference_server import Truth
from tokenhour.bench.loadgen.subprocesses import children
from tokenhour.bench.loadgen.worker_count import Workers
from tokenhour.bench.measure.probe import MeasuringSession, Wish, run_probe
from tokenhour.bench.summary.load_point import window
from tokenhour.bench.target.discovery import Target
from tokenhour.bench.target.openai_api import Dialect
from tokenhour.bench.workload.sampling import PromptSource, corpus
from tokenhour.contracts.config.bench import BenchSpec, LengthSpec
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file, sha256_of, write_bytes_atomic
from tokenhour.contracts.records.environment import Accelerator, machine_sha256
from tokenhour.contracts.records.request import RequestRow
from tokenhour.contracts.standalone.generator_certificate import Accuracy, Certificate, Level
from tokenhour.machine.hardware import accelerator, cpu_model, usable_cpus
from tokenhour.machine.run_folder import now_utc

TTFT_LIMIT_S = 0.010
SCHEDULE_SHARE = 0.95
LIGHT_STREAMS = 16
LEVELS = (1320, 1500, 1750)
"""Streams, upwards while they are followed; about 77 chunks/s each."""
LOWER_LEVELS = (660, 200)
"""Downwards, where the first is not followed."""
_LAST_START_S = 19.0  # no level is begun later, so that the whole takes less than half a minute
_ITL_S, _TTFT_S = 0.010, 0.050
_JITTER_S = 0.500
"""Of the first token, so that the streams are out of step: in step, all would ask again in the same tenth of a second."""
_REQUEST_STREAMS = 128
_CODE = (
    "http/connection",
    "http/event_loop",
    "http/tls",
    "loadgen/alarm",
    "loadgen/distributed",
    "loadgen/main",
    "loadgen/probe_plan",
    "recording/frame_log",
    "recording/raw_files",
    "recording/recorder",
    "recording/response_parser",
    "target/openai_api",
    "workload/prompts",
    "workload/request_plan",
)
Report = dict[str, Truth]


@dataclass(frozen=True, slots=True)
class Trial:
    """A load against the reference server."""

    streams: int
    ttft_s: float
    itl_s: float
    output_tokens: int
    length_s: float
    jitter_s: float = 0.0


LIGHT = Trial(LIGHT_STREAMS, _TTFT_S, _ITL_S, 32, 3.0, 0.1)
FAST = Trial(_REQUEST_STREAMS, 0.001, 0.001, 1, 1.5)


def calibrate(workers: int = 1) -> Certificate:
    """Measure the generator on this machine, in under 30 s. Raises InputError where there is no C compiler."""
    began = time.monotonic()
    server = reference_server.described()
    with (
        tempfile.TemporaryDirectory(prefix="tokenhour-calibrate-") as folder,
        open_session(Path(folder), workers) as session,
    ):
        rows, truth = attempt(session, LIGHT)
        light = accuracy(LIGHT.streams, rows, truth)
        lowest = level(LIGHT, rows, truth, window_of(session), session.points[-1].chunks_per_s)
        levels = climb(session, lambda: time.monotonic() - began < _LAST_START_S)
        attempt(session, FAST)
        requests = session.points[-1].completed_rps
    levels = [lowest, *levels]
    followed = [found for found in levels if found.followed]
    return Certificate(
        ceiling_chunks_per_s=max((found.chunks_per_s for found in followed), default=0.0),
        ceiling_requests_per_s=requests,
        ttft_error_p99_s=light.ttft_error_p99_s,
        ttft_error_mean_s=light.ttft_error_mean_s,
        interchunk_error_p99_s=light.interchunk_error_p99_s,
        light=light,
        levels=tuple(levels),
        ttft_limit_s=TTFT_LIMIT_S,
        limited_by=_limit(levels),
        reference=server,
        workers=workers,
        cores=usable_cpus(),
        kernel_timestamps=os.uname().sysname == "Linux",
        machine_sha256=this_machine(),
        code_sha256=code_sha256(),
        seconds=time.monotonic() - began,
        calibrated_utc=now_utc(),
    )


def climb(session: MeasuringSession, goes_on: Callable[[], bool]) -> list[Level]:
    """Raise the load until it is not followed or time is up; where not even the first level is, lower it until one is.

    From there once more halfway up, if there is time.
    """
    levels = [_try(session, LEVELS[0])]
    up = levels[0].followed
    for streams in LEVELS[1:] if up else LOWER_LEVELS:
        if levels[-1].followed != up or not goes_on():
            break
        levels.append(_try(session, streams))
    if not up and levels[-1].followed and goes_on():
        levels.append(_try(session, (levels[-1].streams + levels[-2].streams) // 2))
    return sorted(levels, key=lambda found: found.streams)


def _try(session: MeasuringSession, streams: int) -> Level:
    trial = Trial(streams, _TTFT_S, _ITL_S, 100, 1.2, _JITTER_S)
    rows, truth = attempt(session, trial)
    return level(trial, rows, truth, window_of(session), session.points[-1].chunks_per_s)


def _limit(levels: list[Level]) -> Literal["generator", "reference server", "the levels tried"]:
    if levels[-1].followed:
        return "the levels tried"
    return "generator" if levels[-1].server_on_time else "reference server"


def window_of(session: MeasuringSession) -> tuple[int, int]:
    """Return the window of the session's last probe, in ns of the machine's monotonic clock."""
    point = session.points[-1]
    start = session.zero_ns + int(point.window_start_s * 1e9)
    return start, start + int(point.window_s * 1e9)


def errors(rows: list[RequestRow], truth: Report) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (TTFT errors, absolute inter-chunk errors), s, of the successful requests that the server knows too."""
    ttft, gaps = [], []
    for row in rows:
        known = truth.get(row.request_id)
        if known is None or row.outcome != "success" or row.first_token_s is None or row.sent_s is None:
            continue
        ttft.append(row.first_token_s - row.sent_s - (known.first_ns - known.received_ns) / 1e9)
        if len(known.sent_ns) == len(row.chunk_offsets_s):
            gaps.append(np.abs(np.diff(row.chunk_offsets_s) - np.diff(known.sent_ns) / 1e9))
    return np.asarray(ttft), np.concatenate(gaps) if gaps else np.empty(0)


def accuracy(streams: int, rows: list[RequestRow], truth: Report) -> Accuracy:
    """Say how exact the generator's times are."""
    ttft, gaps = errors(rows, truth)
    if not len(gaps):
        raise RunFailedError(
            "no answer of the reference server came back in time",
            where="calibration",
            remedy="something else uses this machine: end it, and run the same command again",
        )
    return Accuracy(
        streams=streams,
        ttft_error_mean_s=float(ttft.mean()),
        ttft_error_p99_s=float(np.percentile(ttft, 99)),
        interchunk_error_p99_s=float(np.percentile(gaps, 99)),
    )


def level(trial: Trial, rows: list[RequestRow], truth: Report, window_ns: tuple[int, int], chunks_per_s: float) -> Level:
    """Judge whether a load was followed: times right, every stream busy, and the server itself on its schedule."""
    ttft, _ = errors(rows, truth)
    worst = float(np.percentile(np.abs(ttft), 99)) if len(ttft) else 1e9
    busy = busy_share(truth, trial.streams, window_ns)
    ideal_s = (trial.output_tokens - 1) * trial.itl_s
    taken = [(t.last_ns - t.first_ns) / 1e9 for t in truth.values() if t.tokens == trial.output_tokens]
    on_time = not taken or ideal_s >= SCHEDULE_SHARE * float(np.mean(taken))
    return Level(
        streams=trial.streams,
        chunks_per_s=chunks_per_s,
        ttft_error_p99_s=worst,
        followed=worst <= TTFT_LIMIT_S and busy >= SCHEDULE_SHARE and on_time,
        server_on_time=on_time,
    )


def busy_share(truth: Report, streams: int, window_ns: tuple[int, int]) -> float:
    """Return the share of the window in which a stream had a request at the server, mean over streams.

    What is missing to 1 is the time in which the generator had not sent the next request yet.
    """
    start, end = window_ns
    served = sum(max(0, min(t.last_ns, end) - max(t.received_ns, start)) for t in truth.values())
    return served / (streams * (end - start))


def attempt(session: MeasuringSession, trial: Trial) -> tuple[list[RequestRow], Report]:
    """Load a reference server with a trial; return the rows of its window and the server's truth."""
    spec = session.target.spec
    workload = spec.workload.model_copy(update={"output": LengthSpec(mean_tokens=trial.output_tokens)})
    jitter = "--jitter-us", str(round(trial.jitter_s * 1e6))
    with reference_server.running(trial.ttft_s, trial.itl_s, *jitter, core=reference_server.own_core()) as server:
        session.target = replace(
            session.target, base_url=server.base_url, spec=spec.model_copy(update={"workload": workload})
        )
        made = run_probe(session, Wish("fixed", trial.length_s, users=trial.streams))
        start_s, end_s = window(made.point)
        return [r for r in made.rows if start_s <= r.scheduled_s < end_s], server.truth()


@contextlib.contextmanager
def open_session(folder: Path, workers: int) -> Iterator[MeasuringSession]:
    """Start the generator, without a server yet."""
    spec = BenchSpec.model_validate(
        {
            "workload": {"name": "calibration", "prompt": {"mean_tokens": 64}, "output": {"mean_tokens": 16}},
            "slo": {"percentile": 50, "e2e_s": 1000},
            "search": {"warmup_s": 0.8},
            "timeout_s": 30,
            "inactivity_timeout_s": 10,
        }
    )
    target = Target(
        spec=spec,
        base_url="http://127.0.0.1:1",
        model_id="reference",
        dialect=Dialect(),
        tokenizer=None,
        template_tokens=0,
        saturation_users=1,
        accelerator=Accelerator(kind="cpu", name="", count=1, memory_bytes=0),
        metrics_urls=(),
        engine_pids=(),
    )
    zero_ns = time.monotonic_ns()
    with contextlib.ExitStack() as stack:
        # The server has a core of its own, and all of the generator the others: what is measured is the generator.
        with reference_server.kept_off(reference_server.own_core()):
            crew = stack.enter_context(children(target, folder, zero_ns, Workers(workers)))
        yield MeasuringSession(target, PromptSource(corpus(None)), folder, zero_ns, uuid.uuid4().hex, crew)


def code_sha256() -> str:
    """Hash the generator's own source."""
    return sha256_of({name: sha256_file(Path(__file__).parents[1] / f"{name}.py") for name in _CODE})


def this_machine() -> str:
    """Hash what decides the generator's speed."""
    return machine_sha256(cpu_model(), usable_cpus(), accelerator())


def kept_at(results: Path, workers: int) -> Path:
    """Return where the certificate of this machine, this source and so many workers is kept."""
    return results / ".certificates" / f"{sha256_of([this_machine(), code_sha256(), workers])[:16]}.json"


def certified(results: Path, workers: int = 1) -> tuple[Certificate | None, str]:
    """Return this machine's certificate, and how it came: kept in `results`, measured now, or not to be had (why)."""
    kept = kept_at(results, workers)
    if kept.is_file():
        found = Certificate.read(kept)
        return found, f"generator certificate of {found.calibrated_utc} reused from {kept}"
    try:
        found = calibrate(workers)
    except (InputError, RunFailedError) as error:
        return None, f"{error.what}: generator uncertified; {error.remedy}"
    if not any(one.followed for one in found.levels if one.streams > LIGHT_STREAMS):
        kind = "only the light load" if found.ceiling_chunks_per_s else "no load at all"
        return found, f"the generator followed {kind}: something else uses this machine; the certificate is not kept"
    write_bytes_atomic(kept, found.to_json())
    full = any(one.followed for one in found.levels if one.streams >= LEVELS[0])
    doubt = (
        "" if full else f"; {LEVELS[0]} streams were not followed: if the machine was busy, remove the file to measure again"
    )
    return found, f"generator calibrated in {found.seconds:.0f} s; kept in {kept} for the next runs on this machine{doubt}"
