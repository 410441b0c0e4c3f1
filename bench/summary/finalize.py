"""From the records of a run folder to its summary, right after the run or years later."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from itertools import chain

from tokenhour.bench.recording import raw_files
from tokenhour.bench.recording.recovery import leftovers
from tokenhour.bench.recording.tables import read_table, request_rows, telemetry_rows, write_table
from tokenhour.bench.summary.run_facts import Subject, of_endpoint, of_server
from tokenhour.bench.summary.summarize import Raw, summarize
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.io.atomic_io import sha256_file
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.endpoint import Endpoint, Load
from tokenhour.contracts.records.environment import Environment, machine_sha256
from tokenhour.contracts.records.probe import Probes
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow
from tokenhour.contracts.records.server import Server
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.telemetry import TELEMETRY_FILE, TelemetryRow
from tokenhour.contracts.standalone.generator_certificate import Certificate
from tokenhour.machine.hardware import accelerator, capture, cpu_model, usable_cpus
from tokenhour.machine.kernel_support import saturates
from tokenhour.machine.lineage import measurement_inputs
from tokenhour.machine.run_folder import RunDir, now_utc

RAW = (Summary.file_name, Probes.file_name, REQUESTS_FILE, TELEMETRY_FILE, raw_files.FOLDER)


@dataclass(frozen=True, slots=True)
class _Inputs:
    subject: Subject
    hashes: dict[str, str]


def conclude(run_dir: RunDir) -> Summary:
    """Turn the streamed lines into tables, derive the summary from those, and drop the lines.

    What was received and had not become a line, because a process was killed, becomes a row all the same.
    """
    raw = run_dir.path / raw_files.FOLDER
    zero_ns = round(Probes.read(run_dir.path).clock_zero_monotonic_s * 1e9)
    requests = chain.from_iterable(request_rows(file) for file in raw_files.all_rows(raw))
    write_table(run_dir.path / REQUESTS_FILE, chain(requests, leftovers(raw, zero_ns)), RequestRow)
    samples = chain.from_iterable(telemetry_rows(file) for file in raw_files.all_telemetry(raw))
    write_table(run_dir.path / TELEMETRY_FILE, samples, TelemetryRow)
    note_machine(run_dir)
    summary = derive(run_dir)
    summary.write(run_dir.path)
    shutil.rmtree(raw)
    return summary


def note_machine(run_dir: RunDir) -> None:
    """Keep environment.json that of the machine that was measured on: the folder may have come from another."""
    path, here = run_dir.path, machine_sha256(cpu_model(), usable_cpus(), accelerator())
    if Environment.exists(path) and Environment.read(path).machine_sha256() != here:
        run_dir.supersede(Environment.file_name)
    if not Environment.exists(path):
        capture(now_utc()).write(path)


def derive(run_dir: RunDir) -> Summary:
    """Derive the summary from the records in the run folder."""
    path = run_dir.path
    found = Raw(
        Probes.read(path),
        read_table(path / REQUESTS_FILE, RequestRow),
        read_table(path / TELEMETRY_FILE, TelemetryRow),
        Certificate.read(path) if Certificate.exists(path) else None,
    )
    known = _endpoint_inputs(run_dir) if Endpoint.exists(path) else _server_inputs(run_dir)
    names = [Probes.file_name, REQUESTS_FILE, TELEMETRY_FILE]
    names += [Certificate.file_name] if found.certificate else []
    files = {name: sha256_file(path / name) for name in names}
    return summarize(known.subject, found, {**known.hashes, **files})


def _server_inputs(run_dir: RunDir) -> _Inputs:
    path = run_dir.path
    experiment, server = Experiment.read(path), Server.read(path)
    # Of the machine that was measured on, which need not be this one: a summary may be derived again elsewhere.
    machine = Environment.read(path) if Environment.exists(path) else None
    hashes = measurement_inputs(experiment, Checkpoint.sha256_in(path), server.engine, server.accelerator, machine)
    subject = of_server(experiment, Checkpoint.read(path), server)
    inexact = saturates(server.scheme, server.accelerator.kind, machine.cpu_flags if machine else ())
    if inexact and not server.synthetic:
        subject = replace(subject, notes=(*subject.notes, inexact))
    return _Inputs(subject, {**hashes, Server.file_name: Server.sha256_in(path)})


def _endpoint_inputs(run_dir: RunDir) -> _Inputs:
    path = run_dir.path
    hashes = {kind.file_name: kind.sha256_in(path) for kind in (Load, Endpoint)}
    return _Inputs(of_endpoint(Load.read(path), Endpoint.read(path)), hashes)
