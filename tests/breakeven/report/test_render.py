"""The report is one file, says where figures come from, and refuses what is not real or not valid."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.summaries import EXPERIMENT, LAG, write_all, write_roofline
from tokenhour.breakeven.report import plots
from tokenhour.breakeven.report.plots.figure import TITLES, Plot
from tokenhour.breakeven.report.render import render
from tokenhour.breakeven.stage import run
from tokenhour.contracts.config.model_quantize import QualityGate
from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.summary import Summary

PLOTS = (
    "cost", "load", "bill", "tornado", "distribution", "heatmap", "day", "ahead", "latency", "precision",
)  # fmt: skip


def solved(results: Path, **changes: Any) -> tuple[Path, list[Summary]]:
    """Write three runs, solve them, and return the verdict's folder and the runs."""
    made = write_all(results, **changes)
    run(EXPERIMENT, results, Path("configs/prices"), allow_invalid=changes.get("validity") == "INVALID")
    return results / "golden", made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render one report and return its folder."""
    folder, _ = solved(tmp_path_factory.mktemp("results"))
    render(folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots empty where a page is read for its words: drawing them takes seconds, and other tests draw them."""
    monkeypatch.setattr(plots, "render", lambda name, caption, _draw: Plot(name, caption, b"", b"<svg/>"))


def test_the_html_stands_alone(folder: Path) -> None:
    """The HTML report loads nothing from elsewhere, so it can be mailed and opened offline."""
    html = (folder / "report.html").read_text()
    loads = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', html)
    assert all(re.search(rf'<a href="{re.escape(url)}"', html) for url in loads), (
        "links to sources, and nothing that is loaded"
    )
    assert not re.search(r"<(link|iframe|object|embed)|<script[^>]+src|@import|url\((?!data:)", html)
    assert "default-src 'none'" in html


def test_every_plot_is_there_as_png_and_svg_with_a_text_alternative(folder: Path) -> None:
    """Every plot comes as PNG and SVG, in reading order and with a text for screen readers."""
    names = {file.name for file in (folder / "plots").iterdir()}
    assert all(TITLES[plot] in (folder / "plots" / f"{plot}.svg").read_text() for plot in PLOTS)
    assert names == {f"{plot}.{kind}" for plot in PLOTS for kind in ("png", "svg")}
    for svg in (folder / "plots").glob("*.svg"):
        assert ET.parse(svg).getroot().tag.endswith("svg")
    html = (folder / "report.html").read_text()
    assert all(len(alt) > 30 for alt in re.findall(r'alt="([^"]+)"', html))
    assert re.findall(r'aria-label="Plot: (\w+)"', html) == list(PLOTS), "in the order in which they are read"


def test_the_first_page_says_verdict_dates_and_warnings(folder: Path) -> None:
    """HTML and Markdown both open with the verdict, its expiry date and its warnings."""
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text()
        assert "It depends on the API" in text
        assert "2027-02-02" in text
        assert "Quality parity is assumed" in text
        assert "never" in text


@pytest.mark.parametrize("badge", ["measured", "quoted", "assumed"])
def test_inputs_carry_their_badge(folder: Path, badge: str) -> None:
    """Readers can tell measured, quoted and assumed inputs apart by a badge."""
    assert f'class="badge {badge}"' in (folder / "report.html").read_text()


def test_every_table_of_the_markdown_names_lines_or_inputs(folder: Path) -> None:
    """A line of the derivation, an input or a record beside the figures of every table."""
    text = (folder / "report.md").read_text()
    for title, *rows in re.findall(r"^## (.+)\n((?:.|\n)*?)(?=^## |\Z)", text, re.MULTILINE):
        tables = [line for line in rows[0].splitlines() if line.startswith("|")]
        said = rows[0] if title == "What was measured" else "\n".join(tables)
        assert not tables or re.search(r"line \d+|\| line \||\[\d+\]|summary\.json", said), title


@pytest.mark.usefixtures("undrawn")
def test_an_invalid_run_is_printed_in_red(tmp_path: Path) -> None:
    """A report on an invalid measurement warns in red against using it for a decision."""
    folder, _ = solved(tmp_path, validity="INVALID", reasons=(LAG,))
    html = render(folder).read_text()
    assert 'class="bad">INVALID measurement' in html
    assert "must not be used for a decision" in html


@pytest.mark.usefixtures("undrawn")
def test_an_invalid_run_among_valid_ones_gets_no_figure(tmp_path: Path) -> None:
    """One invalid run gets no dollar figure, while the report stays usable for the others."""
    *_, last = write_all(tmp_path)
    (tmp_path / last.run / Summary.file_name).unlink()
    last.model_copy(update={"validity": "INVALID", "reasons": (LAG,)}).write(tmp_path / last.run)
    run(EXPERIMENT, tmp_path, Path("configs/prices"), allow_invalid=False)
    html = render(tmp_path / EXPERIMENT.name).read_text()
    assert "It gets no dollar figure; what follows is about the others." in html
    assert "must not be used for a decision" not in html


@pytest.mark.usefixtures("undrawn")
def test_a_synthetic_run_is_refused_unless_asked_for(tmp_path: Path) -> None:
    """A report on dummy weights is rejected unless it is asked for, and then names them."""
    folder, _ = solved(tmp_path, synthetic=("dummy weights",))
    with pytest.raises(RunFailedError, match="dummy weights"):
        render(folder)
    assert not (folder / "report.html").exists()
    assert "dummy weights" in render(folder, allow_synthetic=True).read_text()


def test_a_summary_that_changed_after_the_verdict_is_refused(tmp_path: Path) -> None:
    """The report is rejected when a summary no longer matches the verdict made from it."""
    folder, made = solved(tmp_path)
    path = tmp_path / made[0].run / Summary.file_name
    path.write_text(path.read_text().replace('"measuring_s": 80.0', '"measuring_s": 81.0'))
    with pytest.raises(InputError, match="changed after the verdict"):
        render(folder)


def test_rendering_twice_gives_the_same_bytes(folder: Path) -> None:
    """Rendering is deterministic, so a difference between two reports is a difference in figures."""
    before = (folder / "report.html").read_bytes()
    assert render(folder).read_bytes() == before


def test_an_experiment_without_wider_questions_has_no_sections_for_them(folder: Path) -> None:
    """Optional sections appear only when the experiment asks their question."""
    text = (folder / "report.md").read_text()
    assert "How sure it is" in text
    assert "Which feature belongs where" not in text


@pytest.mark.usefixtures("undrawn")
def test_the_quality_gate_of_the_experiment_at_hand_is_judged_and_shown(tmp_path: Path) -> None:
    """Whatever bound stood when it was measured: the figures are kept, the verdict is derived."""
    solved(tmp_path)
    loss = Summary.read(tmp_path / "golden-w8a8").mean_kl_divergence
    gate = QualityGate(max_mean_kl_divergence=loss / 2)
    strict = EXPERIMENT.model_copy(update={"quantize": EXPERIMENT.quantize.model_copy(update={"gate": gate})})
    found, *_ = run(strict, tmp_path, Path("configs/prices"), allow_invalid=False)
    gates = {r.scheme: r.quality_gate for r in found.runs}
    assert gates["w8a8"] == "FAIL"
    assert gates["none"] == "PASS"
    assert "golden-w8a8 failed its quality gate" in found.warnings
    render(tmp_path / "golden")
    assert '<td class="bad">FAIL</td>' in (tmp_path / "golden/report.html").read_text()
    assert "| FAIL |" in (tmp_path / "golden/report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_rooflines_that_stand_on_these_measurements_are_shown(tmp_path: Path) -> None:
    """The report shows hardware utilization only when its record belongs to the measurement at hand."""
    folder, _ = solved(tmp_path)
    render(folder)
    assert "hardware's limits" not in (folder / "report.md").read_text()
    write_roofline(tmp_path / "golden-none")
    write_roofline(tmp_path / "golden-w8a8", summary_sha256="of an earlier measurement")
    render(folder)
    said = "peak: 61.0% of copy bandwidth, 12.3% of the bf16 matrix rate; at the SLO: 30.5% of copy bandwidth"
    assert f"- golden-none: {said}" in (folder / "report.md").read_text()
    assert f'<li><a href="#run-golden-none">golden-none</a>: {said}' in (folder / "report.html").read_text()
    assert "golden-w8a8: peak" not in (folder / "report.md").read_text()
