"""The report: one page for a decision-maker, and everything that it stands on."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.report import explorer_data, summary_page
from tokenhour.breakeven.report.derivation import steps
from tokenhour.breakeven.report.derivation_step import slug
from tokenhour.breakeven.report.exports import write_all
from tokenhour.breakeven.report.number_format import FILTERS
from tokenhour.breakeven.report.plots import Plot, all_plots
from tokenhour.breakeven.report.table import OUTCOME_WORDS
from tokenhour.breakeven.report.tables import sections
from tokenhour.breakeven.stage import refuse_invalid
from tokenhour.contracts import input_keys
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.io.atomic_io import write_bytes_atomic, write_text_atomic
from tokenhour.contracts.records.summary import Summary
from tokenhour.contracts.records.verdict import Verdict
from tokenhour.contracts.standalone.roofline import Roofline
from tokenhour.machine.run_folder import RunDir

ASSETS = Path(__file__).parent / "assets"
WEB_FILES = ("page.css", "uPlot.min.css", "uPlot.LICENSE", "uPlot.iife.min.js", "engine.js", "explorer.js")


def read_inputs(folder: Path) -> tuple[Verdict, list[Summary]]:
    """Read the verdict and the summaries that it stands on; InputError when one has changed since."""
    verdict = Verdict.read(folder)
    summaries = []
    for name, expected in input_keys.SUMMARY.among(verdict.inputs).items():
        run = folder.parent / name
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
    """Write report.html, report.md, the exports and plots/ into the experiment's folder; return the HTML's path."""
    verdict, summaries = read_inputs(folder)
    refuse_invalid(summaries, allow=verdict.allowed_invalid)
    refuse_synthetic(summaries, allow=allow_synthetic)
    plots = all_plots(verdict, summaries)
    for plot in plots:
        write_bytes_atomic(folder / "plots" / f"{plot.name}.png", plot.png)
        write_bytes_atomic(folder / "plots" / f"{plot.name}.svg", plot.svg)
    exports = write_all(folder, verdict)
    of_runs = run_plots(folder.parent, summaries)
    context = build_context(verdict, summaries, plots, of_runs, exports, rooflines(folder.parent, summaries))
    write_text_atomic(folder / "report.md", fill("report.md.j2", context))
    write_text_atomic(folder / "report.html", fill("report.html.j2", context))
    RunDir(folder).note("report", "done")
    return folder / "report.html"


def build_context(
    verdict: Verdict,
    summaries: Sequence[Summary],
    plots: Sequence[Plot],
    of_runs: Sequence[tuple[str, str, str]] = (),
    exports: Sequence[str] = (),
    limits: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Gather what the templates show.

    `of_runs` are the runs' own plots: (run, caption, data URI); `limits` say how near to the hardware's limits each ran.
    """
    best = verdict.best
    hard = summary_page.toughest(best) if best else None
    lines = steps(verdict, best, hard) if best and hard else []
    data = explorer_data.build(verdict, best)
    if data and best:
        data["anchors"] = [f"in-{slug(c.price.name)}" for c in best.comparisons]
    return {
        "verdict": verdict,
        "summaries": summaries,
        "pairs": list(zip(verdict.runs, summaries, strict=False)),
        "best": best,
        "recommended": summary_page.RECOMMENDED.get(verdict.recommendation or "", ("Verdict", "")),
        "headline": summary_page.headline(verdict, best),
        "models": sorted({run.origin.model_name for run in verdict.runs if run.origin}),
        "plainly": summary_page.plainly(best, best.comparisons) if best else "",
        "toughest": hard.price.title if hard else "",
        "facts": list(summary_page.facts(verdict, best, hard)) if best and hard else [],
        "turns": summary_page.turns(hard) if hard else [],
        "api_rows": summary_page.rows(best) if best else [],
        "toughest_input": hard.price.name if hard else "",
        "names": names,
        "steps": lines,
        "step_names": {line.name: line.title for line in lines},
        "step_numbers": {line.name: number for number, line in enumerate(lines, 1)},
        "input_slugs": {a.name: slug(a.name) for a in verdict.assumptions},
        "input_numbers": {a.name: number for number, a in enumerate(verdict.assumptions, 1)},
        "verdict_inputs": summary_page.sentence_inputs(best),
        "warnings": summary_page.warnings(verdict),
        "plot_steps": PLOT_STEPS,
        "plots": [(plot, data_uri(plot.svg)) for plot in plots],
        "run_plots": of_runs,
        "rooflines": limits,
        "sections": sections(verdict),
        "outcome_words": OUTCOME_WORDS,
        "invalid": [s for s in summaries if s.validity == "INVALID"],
        "synthetic": [s for s in summaries if s.synthetic],
        "explorer": data,
        # A "<" could end the script element that holds the data.
        "explorer_json": json.dumps(data).replace("<", "\\u003c"),
        "no_explorer": explorer_data.why_not(verdict, best),
        "sliders": SLIDERS,
        "exports": ("report.md", *exports, "plots/"),
        "files": {name: (ASSETS / name).read_text(encoding="utf-8") for name in WEB_FILES},
    }


PLOT_STEPS: dict[str, tuple[str, ...]] = {
    "cost": ("own", "first", "stable"),
    "load": ("planned", "price"),
    "bill": ("own", "api"),
    "tornado": ("saving", "flips"),
    "distribution": ("first", "certainty"),
    "heatmap": ("competitive",),
    "day": ("replicas", "hybrid"),
    "ahead": ("payback",),
    "latency": (),
    "precision": (),
}
"""The lines of the derivation that a plot's figures follow from; none: what was measured."""
SLIDERS = (
    ("tokens", "volume"),
    ("prompt", "input of a request"),
    ("output", "output of a request"),
    ("cached", "share of input that the API bills as cached"),
    ("gpu_usd_per_hour", "price of the machine"),
    ("headroom", "headroom: how full a replica is planned"),
    ("ops_usd", "operations"),
    ("engineering_usd", "engineering"),
    ("api_multiple", "API prices"),
    ("api_decay", "API prices fall by"),
)


def run_plots(results: Path, summaries: Sequence[Summary]) -> list[tuple[str, str, str]]:
    """Return the plots that the bench left in each run's folder, with their captions; none where it left none."""
    found = []
    for summary in summaries:
        folder = results / summary.run / "plots"
        for file in sorted(folder.glob("*.svg")):
            title = file.with_suffix(".txt")
            said = title.read_text(encoding="utf-8").strip() if title.is_file() else file.stem.replace("-", " ")
            found.append((summary.run, said, data_uri(file.read_bytes())))
    return found


def rooflines(results: Path, summaries: Sequence[Summary]) -> list[tuple[str, str]]:
    """Return what each run's roofline says, where one stands on exactly this measurement."""
    found = ((summary.run, Roofline.beside(results / summary.run)) for summary in summaries)
    return [(run, roofline.sentence()) for run, roofline in found if roofline is not None]


def data_uri(svg: bytes) -> str:
    """Return the SVG as a data URI: an image of its own, whose ids cannot collide with those of the other plots."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def fill(template: str, context: dict[str, Any]) -> str:
    """Fill a template; HTML is escaped, an undefined name is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template).render(context)
