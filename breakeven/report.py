"""The report: one page for a decision-maker, and everything that it stands on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breakeven.plots import Plot, all_plots
from breakeven.sections import sections
from breakeven.show import OUTCOME_WORDS
from breakeven.stage import SUMMARY_PREFIX, refuse_invalid
from breakeven.words import best_run
from contracts.errors import InputError, RunFailedError
from contracts.run import Summary
from contracts.rundir import RunDir
from contracts.store import write_bytes_atomic, write_text_atomic
from contracts.units import human_bytes, human_count, human_seconds
from contracts.verdict import Verdict

NOTHING = "\u2013"
TEMPLATES = Path(__file__).parent / "templates"


def read_inputs(folder: Path) -> tuple[Verdict, list[Summary]]:
    """Read the verdict and the summaries that it stands on; InputError when one has changed since."""
    verdict = Verdict.read(folder)
    summaries = []
    for key, expected in verdict.inputs.items():
        if not key.startswith(SUMMARY_PREFIX):
            continue
        run = folder.parent / key.removeprefix(SUMMARY_PREFIX)
        if not Summary.exists(run) or Summary.sha256_in(run) != expected:
            raise InputError(
                "this summary changed after the verdict was solved", where=str(run), remedy="tokenhour breakeven solve EXP"
            )
        summaries.append(Summary.read(run))
    return verdict, summaries


def refuse_synthetic(summaries: Sequence[Summary], *, allow: bool) -> None:
    """Raise RunFailedError for a run that is not real, unless that was asked for."""
    made_up = [f"{s.run} ({', '.join(s.synthetic)})" for s in summaries if s.synthetic]
    if made_up and not allow:
        raise RunFailedError(f"synthetic runs: {'; '.join(made_up)}", remedy="say --allow-synthetic to see them, marked")


def render(folder: Path, *, allow_synthetic: bool = False) -> Path:
    """Write report.html, report.md and plots/ into the experiment's folder; return the HTML's path."""
    verdict, summaries = read_inputs(folder)
    refuse_invalid(summaries, allow=verdict.allowed_invalid)
    refuse_synthetic(summaries, allow=allow_synthetic)
    plots = all_plots(verdict, summaries)
    for plot in plots:
        write_bytes_atomic(folder / "plots" / f"{plot.name}.png", plot.png)
        write_bytes_atomic(folder / "plots" / f"{plot.name}.svg", plot.svg)
    context = build_context(verdict, summaries, plots)
    write_text_atomic(folder / "report.md", fill("report.md.j2", context))
    write_text_atomic(folder / "report.html", fill("report.html.j2", context))
    RunDir(folder).note("report", "done")
    return folder / "report.html"


def build_context(verdict: Verdict, summaries: Sequence[Summary], plots: Sequence[Plot]) -> dict[str, Any]:
    """Gather what the templates show."""
    return {
        "verdict": verdict,
        "summaries": summaries,
        "pairs": list(zip(verdict.runs, summaries, strict=False)),  # an assumed capacity has no summary
        "best": best_run(verdict.runs),
        "plots": [(plot, data_uri(plot)) for plot in plots],
        "sections": sections(verdict),
        "outcome_words": OUTCOME_WORDS,
        "invalid": [s for s in summaries if s.validity == "INVALID"],
    }


def data_uri(plot: Plot) -> str:
    """Return the SVG as a data URI: an image of its own, whose ids cannot collide with those of the other plots."""
    return f"data:image/svg+xml;base64,{base64.b64encode(plot.svg).decode()}"


def fill(template: str, context: dict[str, Any]) -> str:
    """Fill a template; HTML is escaped, an undefined name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": lambda v: NOTHING if v is None else human_count(v),
        "usd": lambda v: NOTHING if v is None else f"${v:,.2f}",
        "usd3": lambda v: NOTHING if v is None else f"${v:,.3f}",
        "percent": lambda v: NOTHING if v is None else f"{v:.1%}",
        "seconds": lambda v: NOTHING if v is None else human_seconds(v),
        "bytes": human_bytes,
        "number": lambda v: NOTHING if v is None else f"{v:.3g}",
    }
    return environment.get_template(template).render(context)
