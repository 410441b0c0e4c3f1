"""The tools of `tokenhour bench` beside the measurement: calibrate, import-log, telemetry."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.units import human_count, human_seconds


@click.command("calibrate")
@click.option("--json", "as_json", is_flag=True, help="Print the whole certificate as JSON.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write certificate.json into this folder too.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Load processes.")
def calibrate(as_json: bool, out: Path | None, workers: int) -> None:
    """Certify the load generator on this machine, in under 30 s: its ceiling, and the error of its times.

    It is measured against a deterministic server of its own, compiled from C on demand.

    \b
    Examples:
      tokenhour bench calibrate
      tokenhour bench calibrate --json
    """
    from tokenhour.bench.calibration.calibrate import calibrate as measure

    found = measure(workers)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.write(out)
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    print(
        f"ceiling: {human_count(found.ceiling_chunks_per_s)} chunks/s (limited by {found.limited_by}), "
        f"{human_count(found.ceiling_requests_per_s)} requests/s"
    )
    print(
        f"error at {found.light.streams} streams: TTFT mean {found.ttft_error_mean_s * 1e3:.3f} ms, "
        f"p99 {found.ttft_error_p99_s * 1e3:.3f} ms; inter-chunk p99 {found.interchunk_error_p99_s * 1e3:.3f} ms"
    )
    for level in found.levels:
        said = "followed" if level.followed else "not followed" + ("" if level.server_on_time else " (the server was late)")
        print(
            f"  {level.streams} streams: {human_count(level.chunks_per_s)} chunks/s, "
            f"TTFT error p99 {level.ttft_error_p99_s * 1e3:.2f} ms, {said}"
        )
    print(f"{found.reference}; {human_seconds(found.seconds)}")


@click.command("worker")
@click.argument("master", metavar="HOST:PORT")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("tokenhour-worker"), show_default=True)
def worker(master: str, out: Path) -> None:
    """Make load for a measurement on another machine until it is over; raw records stay in --out.

    There: `tokenhour bench run EXP --workers 2@0.0.0.0:5557`. The API key comes from this machine's environment.

    \b
    Example:
      tokenhour bench worker 10.0.0.1:5557
    """
    import os
    import sys

    host, _, port = master.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"{master!r} is no HOST:PORT", where="bench worker", remedy="such as 10.0.0.1:5557")
    print(f"joining the measurement at {master}; Ctrl-C ends it", file=sys.stderr, flush=True)
    argv = [sys.executable, "-m", "tokenhour.bench.loadgen.main", "worker", host, port, str(out)]
    os.execv(sys.executable, argv)  # noqa: S606 (our own argv; a signal reaches it without a parent between)


@click.command("import-log")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what is made of it.")
@click.option("--name", default=None, help="What to call the source; default: the log's file name.")
def import_log(log: Path, out: Path, name: str | None) -> None:
    """Turn a request LOG into a workload file and a traffic profile for the economics.

    LOG is CSV or JSON lines with a prompt and a completion token count in each line and, if possible, a timestamp; or
    an OpenAI usage export (buckets with n_requests or num_model_requests), which gives mean lengths instead of requests.

    \b
    Example:
      tokenhour bench import-log requests.jsonl --out traffic/
    """
    from tokenhour.bench.workload.import_log import convert

    found = convert(log, out, name or log.name)
    tokens = found.profile.tokens
    print(
        f"{found.profile.requests} requests, mean {tokens.prompt:.0f} prompt and {tokens.completion:.0f} completion tokens, "
        f"{human_count(found.profile.tokens_per_month())} tokens a month, peak hour {found.profile.peak_to_mean:.1f} x mean"
    )
    for line in found.profile.assumed:
        print(f"  assumed: {line}")
    if found.requests_file:
        print(f"  {found.requests_file}  (bench.workload.requests.file)")
    if found.left_out:
        print(f"  {found.left_out} requests without prompt or completion tokens cannot be asked again: they are not in it")
    if found.fragment_file:
        print("  no requests.csv: the log has sums, no single requests that could be asked again")
        print(f"  {found.fragment_file}  (the workload of a load file: its mean lengths)")
    print(f"  {found.profile_file}  (the economics' traffic)")


@click.command("telemetry")
@click.option("--watch", is_flag=True, help="Show the readings live until Ctrl-C.")
@click.option("--out", type=click.Path(path_type=Path), help="Record them as a table into this folder.")
@click.option("--seconds", type=float, help="Stop after so long.")
@click.option("--hz", type=click.FloatRange(0.1, 100), default=10.0, show_default=True, help="Readings a second.")
@click.option("--url", help="Also read the engine's metrics of this server.")
@click.option("--pid", type=int, help="Also read this process tree.")
def telemetry(watch: bool, out: Path | None, seconds: float | None, hz: float, url: str | None, pid: int | None) -> None:
    """Read GPUs (NVML), host and engine: live with --watch, recorded alone with --out.

    \b
    Examples:
      tokenhour bench telemetry --watch --url http://127.0.0.1:8000
      tokenhour bench telemetry --out telemetry/ --seconds 60
    """
    from tokenhour.bench.telemetry.record_only import WatchOptions, watch_telemetry

    watch_telemetry(WatchOptions(watch=watch, out=out, seconds=seconds, hz=hz, url=url, pid=pid))
