"""The files below a run's raw/ (or the folder of a worker that joined): what each is called, and what its name tells."""

from __future__ import annotations

from pathlib import Path

FOLDER = "raw"
"""In a run's folder, while it is measured."""
CORPUS = "corpus.npy"
"""Token ids that prompts are cut from."""
TOKENIZER = "tokenizer.json"
"""In the folder of a worker that joined: the served model's, from the master."""
TELEMETRY = "telemetry.jsonl"
"""Samples of this machine."""
WORKERS_CPU = "telemetry-workers.jsonl"
"""Samples that the workers of other machines sent of themselves."""


def plan_file(raw: Path, probe: int) -> Path:
    """Return where a probe's plan is."""
    return raw / f"plan-{probe}.json"


def spool_file(raw: Path, probe: int, worker: int) -> Path:
    """Return where a worker's frames of a probe are."""
    return raw / f"spool-{probe}-{worker}.bin"


def rows_file(raw: Path, probe: int, worker: int) -> Path:
    """Return where a worker's request rows of a probe are."""
    return raw / f"requests-{probe}-{worker}.jsonl"


def probe_and_worker(file: Path) -> tuple[int, int]:
    """Read the numbers back from the name of a spool or of a file of rows."""
    _, probe, worker = file.stem.split("-")
    return int(probe), int(worker)


def all_rows(raw: Path, probe: int | None = None) -> list[Path]:
    """Return the files of request rows, of all probes or of one, by probe and worker."""
    return sorted(raw.glob(f"requests-{'*' if probe is None else probe}-*.jsonl"), key=probe_and_worker)


def all_spools(raw: Path) -> list[Path]:
    """Return the spools that are left, by probe and worker."""
    return sorted(raw.glob("spool-*.bin"), key=probe_and_worker)


def all_telemetry(raw: Path) -> list[Path]:
    """Return the files of samples."""
    return sorted(raw.glob("telemetry*.jsonl"))
