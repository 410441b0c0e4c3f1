"""`tokenhour serving status` and `logs`. Light imports only: status answers in well under 0.3 s."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tokenhour.contracts.errors import InputError
from tokenhour.serving.state import LIVE, ServerState, all_states

_COLUMNS = ("run", "state", "since", "url", "model", "replicas", "restarts", "ready s", "last request")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--live", "only_live", is_flag=True, help="Leave out servers that are no more.")
def status(as_json: bool, results: Path, only_live: bool) -> None:
    """Say which servers are there and how they are. Exit 1 when one failed or its supervisor was killed.

    \b
    Examples:
      tokenhour serving status
      tokenhour serving status --json --live
    """
    found = [state for _, state in all_states(results) if state.state in LIVE or not only_live]
    if as_json:
        from dataclasses import asdict

        print(json.dumps([asdict(state) for state in found], indent=2))
    elif not found:
        print("no server has run here yet; start one: tokenhour serving up EXP")
    else:
        _print(found)
    sys.exit(int(any(state.state in {"failed", "killed"} for state in found)))


def _print(found: list[ServerState]) -> None:
    rows = [_COLUMNS, *(_row(state) for state in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for state in found:
        for replica in state.replicas:
            if state.state in LIVE and replica.error:
                print(f"  {state.run} {replica.url}: {replica.error}")
        if state.error:
            print(f"  {state.run}: {state.error.splitlines()[0]}")


def _row(state: ServerState) -> tuple[str, ...]:
    ready = sum(replica.state == "ready" for replica in state.replicas) if state.state in LIVE else 0
    starts = [replica.ready_s for replica in state.replicas if replica.ready_s is not None]
    phases = dict.fromkeys(replica.phase for replica in state.replicas if replica.phase)
    said: str = state.state
    if state.state == "starting" and phases:
        said = f"starting ({', '.join(phases)})"
    return (
        state.run,
        said,
        state.since_utc[:19].replace("T", " "),
        state.base_url,
        state.model_id,
        f"{ready}/{len(state.replicas)}",
        str(sum(replica.restarts for replica in state.replicas)),
        f"{max(starts):.1f}" if starts else "-",
        (state.last_request_utc or "-")[:19].replace("T", " "),
    )


@click.command("logs")
@click.argument("which", metavar="[EXP|RUN]", required=False)
@click.option("--scheme", "only", help="Which scheme of EXP.")
@click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
@click.option("--lines", default=50, show_default=True, type=click.IntRange(min=0), help="How many of the last lines.")
@click.option("--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "--of", "part", default="server", show_default=True, help="server, server-0, server-1, ..., router or supervisor."
)
def logs(which: str | None, only: str | None, results: Path, lines: int, follow: bool, part: str) -> None:
    """Print the end of a server's log, and go on with --follow.

    \b
    Examples:
      tokenhour serving logs
      tokenhour serving logs demo-w8a8 --lines 200
      tokenhour serving logs EXP.yaml --scheme w8a8 --follow
    """
    from tokenhour.serving.cli.up import chosen
    from tokenhour.serving.engine.log_files import follow as following
    from tokenhour.serving.engine.log_files import last_lines

    found = chosen(which, only, results)
    if not found:
        raise InputError("no server has run here yet", where=str(results), remedy="start one: tokenhour serving up EXP")
    folder = found[0][0]
    file = folder / f"{part}.log"
    if part == "server" and not file.is_file():
        file = folder / "server-0.log"
    if not file.is_file():
        known = sorted(each.name.removesuffix(".log") for each in folder.glob("*.log"))
        raise InputError("no such log", where=str(file), remedy=f"known: {', '.join(known)}")
    for line in last_lines(file, lines) if lines else []:
        print(line)
    if follow:
        sys.stdout.flush()
        for line in following(file):
            print(line, flush=True)
