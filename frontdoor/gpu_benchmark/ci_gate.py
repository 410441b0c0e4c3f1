"""Hold proofs against the reference committed for the same GPU: run with RESULTS by `python -m`.

What was held against what, and what could not be, is printed and goes onto the job's page: a gate that found nothing to
compare must not look like one that passed.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tokenhour.contracts.errors import InputError, RunFailedError, exit_code_of
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.standalone.gpu_benchmark import Proof
from tokenhour.frontdoor.pipeline import run_step

REFERENCE = "reference"
QUICK = "-quick"
PAGE_ENV = "GITHUB_STEP_SUMMARY"


def slug(accelerator: str) -> str:
    """Name a GPU's folder of references: "NVIDIA H100 80GB HBM3" is nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", accelerator.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the gate says of one proof."""

    sentences: tuple[str, ...]
    bad: bool


def gate(results: Path) -> None:
    """Hold each proof in `results` against its reference and say how it went.

    Raises RunFailedError when a run has regressed or cannot be compared, when the reference has a run that the proof
    lacks, and when it is of another length. Without any reference it is said, and no failure.
    """
    files = sorted(results.glob(f"proof-*/{Proof.file_name}"))
    if not files:
        raise InputError("no proof here", where=str(results), remedy="make gpu-proof first")
    outcomes = {found.name: held(found, results) for found in map(Proof.read, (file.parent for file in files))}
    lines = [f"- {name}: {sentence}" for name, outcome in outcomes.items() for sentence in outcome.sentences]
    print("\n".join(lines))
    if page := os.environ.get(PAGE_ENV):
        with Path(page).open("a", encoding="utf-8") as stream:
            stream.write("\n".join(("## Held against the committed reference", "", *lines, "", "")))
    if bad := [name for name, outcome in outcomes.items() if outcome.bad]:
        raise RunFailedError(
            f"not as good as the reference, or not to be compared with it: {', '.join(bad)}",
            where=str(results),
            remedy="find the cause, or commit a new reference and say why (docs/gpu.md)",
        )


def held(found: Proof, results: Path) -> Outcome:
    """Compare each run of a proof with its counterpart in the reference of this GPU."""
    kept = results / REFERENCE / slug(found.accelerator.name)
    if not Proof.exists(kept / found.name):
        return without_reference(found, kept)
    # The folders that are there: a list may have lost some.
    reference = [run for run in Proof.read(kept / found.name).runs if Summary.exists(kept / run)]
    both = [run for run in found.runs if run in reference]
    worse = [run for run in both if run_step(("compare", "--gate", str(kept / run), str(results / run)))]
    lacking = [run for run in reference if run not in found.runs]
    extra = [run for run in found.runs if run not in reference]
    sentences = [f"{len(both) - len(worse)} of {len(both)} runs are no worse than their reference"]
    sentences += [f"**regressed, or not comparable**: {', '.join(worse)}"] if worse else []
    sentences += [f"**the reference has runs that this proof lacks**: {', '.join(lacking)}"] if lacking else []
    sentences += [f"without a counterpart in the reference, held against nothing: {', '.join(extra)}"] if extra else []
    return Outcome(tuple(sentences), bad=bool(worse or lacking or not both))


def without_reference(found: Proof, kept: Path) -> Outcome:
    """Say that nothing was compared; a reference of the other length alone is a mistake, not a lack."""
    other = found.name.removesuffix(QUICK) if found.quick else found.name + QUICK
    if Proof.exists(kept / other):
        said = f"**the only reference of this model and GPU is {other}**, which is measured otherwise: nothing was compared"
        return Outcome((said,), bad=True)
    return Outcome((f"no reference of it is committed below {kept}: nothing was compared",), bad=False)


def main() -> None:
    """Take the results folder from the first argument."""
    sys.exit(exit_code_of(lambda: gate(Path(sys.argv[1] if sys.argv[1:] else "results"))))


if __name__ == "__main__":
    main()
