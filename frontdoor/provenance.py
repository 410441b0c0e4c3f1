"""`tokenhour trace`: from a dollar figure back to price rows, raw requests and the checkpoint's files, each hash checked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from tokenhour.contracts import input_keys
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.environment import Environment
from tokenhour.contracts.records.request import REQUESTS_FILE
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.units import human_bytes, human_count


@dataclass(frozen=True, slots=True)
class Node:
    """A step of the walk. `intact` is None where there is no hash to compare."""

    text: str
    intact: bool | None = None
    below: tuple[Node, ...] = ()

    def broken(self) -> Iterator[str]:
        """Yield the text of every node whose hash does not match."""
        if self.intact is False:
            yield self.text
        for node in self.below:
            yield from node.broken()


def trace_verdict(folder: Path) -> Node:
    """Walk from results/<experiment>/verdict.json down."""
    verdict = Verdict.read(folder)
    summaries = input_keys.SUMMARY.among(verdict.inputs)
    below = [trace_run(folder.parent / run, expected) for run, expected in summaries.items()]
    for name, expected in input_keys.IDLE.among(verdict.inputs).items():
        file = folder.parent / name
        below.append(Node(f"{file}: what resting saved and cost", file.is_file() and sha256_file(file) == expected))
    below += _prices(verdict)
    return Node(f"{folder / Verdict.file_name}: {verdict.sentence}", None, tuple(below))


def _prices(verdict: Verdict) -> Iterator[Node]:
    rows = {(row.model, row.host): row for run in verdict.runs for row in (c.price for c in run.comparisons)}
    for (model, host), row in rows.items():
        since = f"from {row.effective_from}" if row.effective_from else "undated"
        yield Node(
            f"price {model} at {host}: ${row.input} in, ${row.output} out per M tokens "
            f"({since}, checked {row.checked_on}, {row.source}, {row.source_url})"
        )
    for machine in {run.instance.instance: run.instance for run in verdict.runs if run.instance}.values():
        checked = f"checked {machine.checked_on}, {machine.source}, {machine.source_url}"
        yield Node(f"price {machine.cloud} {machine.instance}: {checked}")


def trace_run(folder: Path, expected_sha256: str | None = None) -> Node:
    """Walk from results/<run>/summary.json down."""
    summary = Summary.read(folder)
    at_slo = summary.at_slo
    figure = (
        f"{human_count(at_slo.output_tokens_per_hour.value)} output + "
        f"{human_count(at_slo.input_tokens_per_hour.value)} input tokens/h at the SLO"
        if at_slo
        else "no tested rate met the SLO"
    )
    intact = None if expected_sha256 is None else Summary.sha256_in(folder) == expected_sha256
    below = (
        *_raw(folder, summary),
        *_sections(folder, summary),
        _machine(folder),
        _server(folder, summary),
        _checkpoint(folder, summary),
    )
    return Node(f"{folder / Summary.file_name}: {summary.validity}, {figure}", intact, below)


def _raw(folder: Path, summary: Summary) -> Iterator[Node]:
    for name in (REQUESTS_FILE, TELEMETRY_FILE):
        file = folder / name
        size = human_bytes(file.stat().st_size) if file.is_file() else "missing"
        yield Node(f"{file} ({size})", file.is_file() and sha256_file(file) == summary.inputs.get(name))


def _sections(folder: Path, summary: Summary) -> Iterator[Node]:
    experiment = Experiment.read(folder)
    for section in ("serving", "bench"):
        matches = experiment.section_sha256(section) == summary.inputs.get(input_keys.EXPERIMENT.key(section))
        yield Node(f"{folder / Experiment.file_name}: section {section}", matches)


def _machine(folder: Path) -> Node:
    host = Environment.read(folder)
    return Node(f"machine: {host.accelerator.name}, kernel {host.kernel}, source {_source(host)}")


def _source(host: Environment) -> str:
    changes = " with uncommitted changes" if host.git_dirty else ""
    return f"{host.git_revision[:12]}{changes}" if host.git_revision else "unknown"


def _server(folder: Path, summary: Summary) -> Node:
    server = Server.read(folder)
    matches = Server.sha256_in(folder) == summary.inputs.get(Server.file_name)
    return Node(f"{folder / Server.file_name}: {server.engine}, ready in {server.cold_start.ready_s:.0f} s", matches)


def _checkpoint(folder: Path, summary: Summary) -> Node:
    checkpoint = Checkpoint.read(folder)
    matches = Checkpoint.sha256_in(folder) == summary.inputs.get(Checkpoint.file_name)
    weights = Path(checkpoint.path)
    files = tuple(
        Node(f"{weights / name} {digest[:12]}", (weights / name).is_file() and sha256_file(weights / name) == digest)
        for name, digest in checkpoint.files.items()
    )
    source = checkpoint.source
    origin = Node(f"source {source.source}, licence {source.license or 'not stated'}. {source.note}".strip())
    title = f"{folder / Checkpoint.file_name}: {checkpoint.model_name} {checkpoint.scheme}"
    return Node(title, matches, (*files, origin))


def find(path: Path) -> Node:
    """Trace a folder, or a record in it; InputError when there is nothing to walk back from."""
    folder = path if path.is_dir() else path.parent
    if Verdict.exists(folder):
        return trace_verdict(folder)
    if Summary.exists(folder):
        return trace_run(folder)
    raise InputError(
        "neither a verdict nor a summary is here",
        where=str(path),
        remedy="name a folder below results/, such as results/demo",
    )


@click.command("trace")
@click.argument("result", type=click.Path(path_type=Path))
def cli(result: Path) -> None:
    """Walk RESULT (a folder below results/ or a record in it) back to its origins and check every hash.

    \b
    Examples:
      tokenhour trace results/demo
      tokenhour trace results/demo-w8a8/summary.json
    """
    node = find(result)
    # A pipe has no width: nothing is cut there.
    Console(width=None if sys.stdout.isatty() else 1000).print(_tree(node))
    broken = list(node.broken())
    if broken:
        raise RunFailedError(
            f"{len(broken)} of the files changed since they were recorded: {'; '.join(broken)}",
            remedy="restore them, or run the experiment again",
        )


def _tree(node: Node) -> Tree:
    mark = {True: "[green]intact[/] ", False: "[red]CHANGED[/] ", None: ""}[node.intact]
    tree = Tree(mark + escape(node.text))
    tree.children += map(_tree, node.below)
    return tree
