"""Hold a proof's runs against the reference committed for the same GPU: `python -m frontdoor.proof_gate RESULTS`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import InputError, RunFailedError, exit_code_of
from contracts.proof import Proof
from contracts.run import Summary
from frontdoor.chain import run_step

REFERENCE = "reference"


def slug(accelerator: str) -> str:
    """Name a GPU's folder of references: "NVIDIA H100 80GB HBM3" is nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", accelerator.lower()).strip("-")


def pairs(results: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (reference run, this run) of each proof in `results`, where results/reference/<gpu>/ holds such a run."""
    proofs = sorted(results.glob(f"proof-*/{Proof.file_name}"))
    if not proofs:
        raise InputError("no proof here", where=str(results), remedy="make gpu-proof first")
    for file in proofs:
        found = Proof.read(file)
        kept = results / REFERENCE / slug(found.accelerator.name)
        for run in found.runs:
            if Summary.exists(kept / run):
                yield kept / run, results / run


def gate(results: Path) -> None:
    """Compare each pair; RunFailedError when one has regressed, or when the comparison itself cannot be made."""
    found = list(pairs(results))
    if not found:
        print(f"no reference of this GPU is committed below {results / REFERENCE}: nothing to hold it against")
        return
    worse = [run.name for reference, run in found if run_step(("compare", "--gate", str(reference), str(run)))]
    if worse:
        raise RunFailedError(
            f"regressed, or not comparable: {', '.join(worse)}",
            where=str(results),
            remedy="find the cause, or commit a new reference and say why (docs/gpu.md)",
        )
    print(f"{len(found)} runs are no worse than their reference")


def main() -> None:
    """Take the results folder from the first argument."""
    sys.exit(exit_code_of(lambda: gate(Path(sys.argv[1] if sys.argv[1:] else "results"))))


if __name__ == "__main__":
    main()
