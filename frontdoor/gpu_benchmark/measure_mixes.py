"""Beside one running server: measure every mix of a proof. Run with SCHEME RESULTS EXP... by `python -m`.

The server belongs to the first experiment's run folder; its record and its checkpoint's go into the others', whose
experiments differ from it in their load alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tokenhour.contracts.config.experiment import Experiment, load_experiment
from tokenhour.contracts.errors import InputError, exit_code_of
from tokenhour.contracts.record import Record
from tokenhour.contracts.records.checkpoint import Checkpoint
from tokenhour.contracts.records.server import Server
from tokenhour.frontdoor.pipeline import STOPPED, run_step
from tokenhour.machine.lineage import engine_version, stale_summary
from tokenhour.machine.processes import die_with_parent
from tokenhour.machine.run_folder import RunDir


def share_server(owner: Path, experiment: Experiment, results: Path, scheme: str) -> None:
    """Put the server's and the checkpoint's record into the run folder of another mix."""
    same = Experiment.read(owner).section_sha256("serving") == experiment.section_sha256("serving")
    if not same:
        raise InputError("it asks for another server", where=experiment.name, remedy="give all mixes one serving section")
    run = RunDir.of(results, experiment, scheme).open(experiment)
    if run.path == owner:
        return
    kinds: tuple[type[Record], ...] = (Server, Checkpoint)
    for kind in kinds:
        found = kind.read(owner)
        if kind.exists(run.path) and (run.path / kind.file_name).read_bytes() == found.to_json():
            continue
        run.supersede(kind.file_name)
        found.write(run.path)


def measure(scheme: str, results: Path, files: list[str]) -> int:
    """Measure what is not current; return the worst exit code, or that of a stop: then no further mix begins."""
    worst, engine = 0, engine_version(Path.cwd())
    owner = Path(os.environ["TOKENHOUR_SERVER"]).parent
    for file in files:
        experiment = load_experiment(Path(file))
        share_server(owner, experiment, results, scheme)
        run = RunDir.of(results, experiment, scheme)
        if engine and not stale_summary(run.path, experiment, engine):
            continue
        code = run_step(("bench", "run", file, "--scheme", scheme, "--results", str(results)))
        if code in STOPPED:
            return code if code > 0 else 128 - code
        worst = max(worst, code if code >= 0 else 1)
    return worst


def main() -> None:
    """Take scheme, results folder and experiment files from the arguments."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent.isdigit():
        die_with_parent(int(parent))
    scheme, results, *files = sys.argv[1:]
    sys.exit(exit_code_of(lambda: sys.exit(measure(scheme, Path(results), files))))


if __name__ == "__main__":
    main()
