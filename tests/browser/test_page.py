"""The page as a person meets it: by keyboard, by screen reader, in the dark, on a phone, on paper."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.breakeven.summaries import EXPERIMENT, write_all
from tokenhour.breakeven.report.render import render
from tokenhour.breakeven.stage import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
FRAME_MS = 50


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render the report of three runs once."""
    results = tmp_path_factory.mktemp("results")
    write_all(results)
    run(EXPERIMENT, results, Path("configs/prices"), allow_invalid=False)
    return render(results / "golden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_nothing(report: Path, open_page: Callable[..., Any], width: int, dark: bool) -> None:
    """The page has no known accessibility fault, whatever the screen width or color scheme."""
    page = open_page(report, width=width, dark=dark)
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations', 'incomplete']})")
    said = [(v["id"], v["help"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found["violations"]]
    assert said == []
    assert len(found["passes"]) > 20
    assert page.wrong == []


def test_no_part_of_it_is_wider_than_a_phone(report: Path, open_page: Callable[..., Any]) -> None:
    """On a phone the page never scrolls sideways."""
    page = open_page(report, width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#chart canvas").bounding_box()["width"] <= 360


def test_a_slider_moved_by_keyboard_moves_everything(report: Path, open_page: Callable[..., Any]) -> None:
    """Keyboard users can change an assumption, hear the new verdict and reset it."""
    page = open_page(report)
    before = page.locator("#x-sentence").inner_text(), page.locator("#x-own").inner_text()
    page.locator("#x-tokens").focus()
    for _ in range(12):
        page.keyboard.press("PageUp")
    page.wait_for_function("was => document.getElementById('x-sentence').textContent !== was", arg=before[0])
    assert page.locator("#x-own").inner_text() != before[1]
    assert "tokens a month" in page.locator("#x-tokens").get_attribute("aria-valuetext")
    page.wait_for_function("() => document.getElementById('x-spoken').textContent.length > 20")
    page.locator("#x-reset").press("Enter")
    page.wait_for_function("was => document.getElementById('x-sentence').textContent === was", arg=before[0])
    assert page.wrong == []


def test_every_control_can_be_reached_and_has_a_name(report: Path, open_page: Callable[..., Any]) -> None:
    """Every control can be reached by Tab and has a label for screen readers."""
    page = open_page(report)
    wanted = page.locator("#explorer input, #explorer select, #explorer button").evaluate_all("all => all.map(e => e.id)")
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id"))
    assert set(wanted) <= seen
    names = page.locator("#explorer input, #explorer select").evaluate_all("all => all.map(e => e.labels[0].textContent)")
    assert all(len(name) > 3 for name in names)


def test_chart_and_table_follow_within_a_frame(report: Path, open_page: Callable[..., Any]) -> None:
    """The quickest of twenty moves: what the machine does beside is not the page's."""
    page = open_page(report)
    took = page.evaluate(
        """async () => {
          const slider = document.getElementById("x-tokens"), root = document.getElementById("explorer"), took = [];
          for (let i = 0; i < 20; i++) {
            slider.value = String(300 + 20 * i);
            const began = performance.now();
            slider.dispatchEvent(new Event("input", {bubbles: true}));
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            took.push(Number(root.dataset.updateMs));
          }
          return took;
        }"""
    )
    assert 0 < min(took) < FRAME_MS


def test_the_chart_draws_the_windows_of_the_chosen_api(report: Path, open_page: Callable[..., Any]) -> None:
    """Choosing another API redraws the chart and updates its text alternative."""
    page = open_page(report)
    shaded = "() => document.querySelector('#chart canvas').toDataURL()"
    one = page.evaluate(shaded)
    page.locator("#x-api").select_option(index=0)
    page.wait_for_function(f"was => ({shaded})() !== was", arg=one)
    assert "gpt-4o-mini" in page.locator("#chart").get_attribute("aria-label")


def test_every_figure_of_the_first_page_leads_to_its_line_and_every_line_to_its_inputs(
    report: Path, open_page: Callable[..., Any]
) -> None:
    """Each headline figure links to the line that derives it, and no link is dead."""
    page = open_page(report)
    targets = page.locator("a[href^='#']").evaluate_all("all => all.map(a => a.getAttribute('href').slice(1))")
    ids = set(page.locator("[id]").evaluate_all("all => all.map(e => e.id)"))
    assert set(targets) <= ids
    facts = page.locator(".facts > div")
    assert facts.count() == page.locator(".facts > div a.origin").count() >= 6
    page.locator(".facts a.origin").first.click()
    assert page.evaluate("location.hash").startswith("#d-")


def test_every_figure_of_the_explorer_leads_to_a_line_or_to_its_row_of_prices(
    report: Path, open_page: Callable[..., Any]
) -> None:
    """Figures in the explorer link to their derivation or price row, so they can be checked."""
    page = open_page(report)
    rows = page.locator("#x-rows tr")
    assert rows.count() == rows.locator("th a[href^='#in-']").count() >= 2
    heads = page.locator("table:has(#x-rows) thead th")
    assert heads.locator("a[href^='#d-']").count() == heads.count() - 1
    page.locator("#x-rows th a").first.click()
    assert page.evaluate("document.querySelector(location.hash).textContent").count("checked") == 1


def test_a_name_in_a_table_is_not_cut_into_letters(report: Path, open_page: Callable[..., Any]) -> None:
    """On a phone the names in tables stay readable instead of breaking into single letters."""
    page = open_page(report, width=360, height=740)
    narrow = page.locator("tbody th").evaluate_all("all => all.filter(e => e.offsetParent && e.clientWidth < 70).length")
    assert narrow == 0
    origins = page.locator(".origin").evaluate_all("all => all.filter(e => e.getClientRects().length > 1).length")
    assert origins == 0, "the mark of an origin stays on one line"


def test_it_prints_on_a4_and_letter(report: Path, open_page: Callable[..., Any]) -> None:
    """On paper the report is short, leaves out the explorer and keeps the verdict and origins."""
    page = open_page(report)
    for paper in ("A4", "Letter"):
        data = page.pdf(format=paper)
        pages = len(re.findall(rb"/Type\s*/Page[^s]", data))
        assert 4 <= pages <= 16
    page.emulate_media(media="print")
    assert page.locator("#explore").is_hidden()
    assert page.locator(".facts .origin").first.is_visible(), "on paper the origins are footnotes"
    assert page.locator(".verdict").first.is_visible()


def test_without_scripts_everything_but_the_explorer_is_there(report: Path, browser: "Browser") -> None:
    """Readers without JavaScript still get the verdict, and a note in place of the explorer."""
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".verdict").first.is_visible()
    assert page.locator("#explorer").is_hidden()
    assert page.locator("noscript").count() == 1
    context.close()
