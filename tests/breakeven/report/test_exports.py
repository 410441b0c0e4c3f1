"""The exports say what the verdict says, and the workbook computes it: calculated here by a formula engine, never by us."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.breakeven.scenarios import asked
from tests.breakeven.summaries import EXPERIMENT
from tests.breakeven.summaries import write_all as write_summaries
from tokenhour.breakeven.report.exports import CSV_FILE, FOCUS_FILE, JSON_FILE, XLSX_FILE, write_all
from tokenhour.breakeven.report.exports.focus import COLUMNS
from tokenhour.breakeven.stage import run
from tokenhour.contracts.records.verdict import RunVerdict, Verdict

PRICES = Path("configs/prices")
DAY = [1, 1, 1, 1, 1, 2, 4, 8, 12, 14, 14, 13, 12, 13, 14, 13, 11, 9, 7, 5, 4, 3, 2, 1]
ECONOMICS = {
    "plain": {},
    "loaded": {
        "redundancy": 1, "ops_share": 0.15, "ops_usd_per_month": 40, "engineering_usd_per_month": 100, "setup_usd": 900,
        "storage_usd_per_month": 3, "egress_usd_per_month": 2, "prompt_tokens": 130_000, "output_tokens": 300,
        "profile": {"hours": DAY}, "cached_share": 0.0,
        "apis": [
            {"model": "claude-haiku-5-5", "host": "anthropic", "tokens_ratio": 1.1},
            {"model": "gpt-4o-mini", "host": "openai"},
        ],
    },
    "follows": {"scaling": "autoscale", "profile": {"hours": DAY}, "cold_start_s": 7300, "redundancy": 1, "min_replicas": 2},
}  # fmt: skip


def solved(folder: Path, **economics: Any) -> Verdict:
    """Solve three runs, with other economics where some are given."""
    write_summaries(folder)
    return run(asked(**economics) if economics else EXPERIMENT, folder, PRICES, allow_invalid=False)[0]


@pytest.fixture(scope="module", params=sorted(ECONOMICS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verdict, RunVerdict]:
    """Export one verdict in every format and return its folder, itself and its best run."""
    folder = tmp_path_factory.mktemp(request.param)
    verdict = solved(folder, **ECONOMICS[request.param])
    best = verdict.best
    assert best is not None
    write_all(folder, verdict)
    return folder, verdict, best


@pytest.mark.filterwarnings("ignore")
def calculated(path: Path, **inputs: Any) -> dict[str, Any]:
    """Calculate a workbook, with some of its inputs changed; {sheet!cell: value}."""
    import formulas

    model = formulas.ExcelModel().loads(str(path)).finish()
    book = path.name
    named = {f"'[{book}]INPUTS'!{cell}": value for cell, value in inputs.items()}
    found = model.calculate(inputs=named) if named else model.calculate()
    cells = {}
    for key, value in found.items():
        text = str(key)
        if ":" not in text and hasattr(value, "value"):
            cells[text.replace(f"'[{book}]", "").replace("'", "")] = value.value[0, 0]
    return cells


def cached(path: Path) -> dict[str, Any]:
    """What the file says without being calculated."""
    from openpyxl import load_workbook

    book = load_workbook(path, data_only=True)
    return {f"{sheet.title.upper()}!{cell.coordinate}": cell.value for sheet in book for line in sheet for cell in line}


def input_cell(path: Path, label: str) -> str:
    """Return the row of the input with this label."""
    return next(key.split("!A")[1] for key, value in cached(path).items() if value == label and key.startswith("INPUTS!A"))


def month(cells: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the workbook's month by name."""
    return {name: cells[f"MONTH!B{row}"] for row, name in enumerate(MONTH, 3)}


MONTH = (
    "tokens_h", "capacity", "machine", "load", "months", "gpu", "busy", "spare", "idle", "ops", "rest", "total",
    "allocation", "usage", "fixed", "replica",
)  # fmt: skip


def assert_says(cells: dict[str, Any], best: RunVerdict) -> None:
    """The workbook's cells are the verdict's figures."""
    bill, line = best.cost_today, month(cells)
    for name, wanted in (
        ("capacity", best.capacity_tokens_per_month),
        ("busy", bill.gpu_busy),
        ("idle", bill.gpu_idle),
        ("spare", bill.redundancy),
        ("ops", bill.ops),
        ("total", bill.total),
        ("allocation", best.allocation_usd_per_mtok),
        ("usage", best.usage_usd_per_mtok),
    ):
        assert math.isclose(line[name], wanted, rel_tol=1e-9, abs_tol=1e-9), name
    for row, c in enumerate(best.comparisons, 3):
        saving = c.api_usd_per_month - c.self_host_usd_per_month
        assert cells[f"APIS!J{row}"] == pytest.approx(c.blended_usd_per_mtok, rel=1e-9)
        assert cells[f"APIS!K{row}"] == pytest.approx(c.api_usd_per_month, rel=1e-9)
        assert cells[f"APIS!L{row}"] == pytest.approx(saving, rel=1e-9, abs=1e-9)
        for column, wanted in (("M", c.first_tokens_per_month), ("N", c.stable_tokens_per_month)):
            said = cells[f"APIS!{column}{row}"]
            assert (said == pytest.approx(wanted, rel=1e-9)) if wanted is not None else isinstance(said, str), column
        assert cells[f"APIS!P{row}"] == pytest.approx(c.utilization_at_breakeven or 0, rel=1e-9)
        assert cells[f"APIS!Q{row}"] == ("self-host" if saving > 0 else "stay")


@pytest.mark.filterwarnings("ignore")
def test_the_calculated_workbook_is_the_verdict(exported: tuple[Path, Verdict, RunVerdict]) -> None:
    """The workbook's formulas arrive at the verdict's figures, so a reader can retrace them."""
    folder, _, best = exported
    assert_says(calculated(folder / XLSX_FILE), best)


def test_a_viewer_that_does_not_calculate_shows_the_verdict_too(exported: tuple[Path, Verdict, RunVerdict]) -> None:
    """Viewers that calculate nothing show the verdict's figures as well."""
    folder, _, best = exported
    assert_says(cached(folder / XLSX_FILE), best)


@pytest.mark.filterwarnings("ignore")
def test_a_changed_gpu_price_volume_and_headroom_move_the_workbook_as_they_move_the_engine(tmp_path: Path) -> None:
    """The machine at three times its price, twice the volume, a fuller replica: as a new solution says."""
    economics = ECONOMICS["loaded"] | {"profile": {"hours": DAY}}
    verdict = solved(tmp_path, **economics)
    write_all(tmp_path, verdict)
    path, prices = tmp_path / XLSX_FILE, tmp_path / "prices"
    prices.mkdir()
    for name in ("api.yaml", "instances.yaml"):
        (prices / name).write_text((PRICES / name).read_text().replace("on_demand: 0.08925", "on_demand: 0.26775"))
    labels = {
        f"{verdict.best.machine}: USD an hour of the whole machine": 0.26775,
        "tokens a month, input plus output": 2e9,
        "share of the capacity that is planned for": 0.95,
    }
    cells = calculated(path, **{f"B{input_cell(path, label)}": value for label, value in labels.items()})
    changed = asked(**economics, tokens_per_month=2e9, headroom=0.95)
    again = run(changed, tmp_path, prices, allow_invalid=False)[0]
    assert_says(cells, again.best)
    assert again.best.cost_today.total != verdict.best.cost_today.total


def test_csv_and_json_hold_every_comparison_with_absent_figures_empty(exported: tuple[Path, Verdict, RunVerdict]) -> None:
    """CSV and JSON hold each run against each API; a break-even that does not exist stays empty."""
    folder, verdict, _ = exported
    lines = list(csv.DictReader(io.StringIO((folder / CSV_FILE).read_text())))
    data = json.loads((folder / JSON_FILE).read_text())
    pairs = [(r, c) for r in verdict.runs for c in r.comparisons]
    assert len(lines) == len(data["rows"]) == len(pairs)
    for line, (r, c) in zip(lines, pairs, strict=True):
        assert (line["run"], line["api_model"]) == (r.run, c.price.model)
        assert float(line["saving_usd_per_month"]) == pytest.approx(c.api_usd_per_month - c.self_host_usd_per_month)
        assert (line["first_tokens_per_month"] == "") == (c.first_tokens_per_month is None)
    assert [(one["name"], one["badge"]) for one in data["inputs"]] == [(a.name, a.badge) for a in verdict.assumptions]
    assert data["sentence"] == verdict.sentence


FOCUS_1_2_NAMES = """
    AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingAccountType BillingCurrency
    BillingPeriodEnd BillingPeriodStart CapacityReservationId CapacityReservationStatus ChargeCategory ChargeClass
    ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart CommitmentDiscountCategory
    CommitmentDiscountId CommitmentDiscountName CommitmentDiscountQuantity CommitmentDiscountStatus
    CommitmentDiscountType CommitmentDiscountUnit ConsumedQuantity ConsumedUnit ContractedCost ContractedUnitPrice
    EffectiveCost InvoiceId InvoiceIssuerName ListCost ListUnitPrice PricingCategory PricingCurrency
    PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost PricingCurrencyListUnitPrice PricingQuantity
    PricingUnit ProviderName PublisherName RegionId RegionName ResourceId ResourceName ResourceType ServiceCategory
    ServiceName ServiceSubcategory SkuId SkuMeter SkuPriceDetails SkuPriceId SubAccountId SubAccountName
    SubAccountType Tags
"""
FOCUS_1_2 = frozenset(FOCUS_1_2_NAMES.split())
MANDATORY_NAMES = """
    BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory
    ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName
    ListCost PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName
"""
MANDATORY = frozenset(MANDATORY_NAMES.split())
SERVICES = {
    ("AI and Machine Learning", "Generative AI"),
    ("Compute", "Virtual Machines"),
    ("Management and Governance", "Other (Management and Governance)"),
    ("Networking", "Network Connectivity"),
    ("Other", "Other (Other)"),
    ("Storage", "Other (Storage)"),
}
"""The pairs of the specification's list (specification/columns/servicesubcategory.md) that a bill of ours can have."""


def focus_lines(folder: Path) -> list[dict[str, str]]:
    """Return the charges of the exported FOCUS bill."""
    return list(csv.DictReader(io.StringIO((folder / FOCUS_FILE).read_text())))


def assert_is_focus(line: dict[str, str]) -> None:
    """What FOCUS 1.2 asks of every charge that is neither a tax nor a correction."""
    number = {
        k: float(line[k]) for k in ("PricingQuantity", "ContractedUnitPrice", "ListUnitPrice", "ContractedCost", "ListCost")
    }
    assert number["ContractedCost"] == pytest.approx(number["PricingQuantity"] * number["ContractedUnitPrice"])
    assert number["ListCost"] == pytest.approx(number["PricingQuantity"] * number["ListUnitPrice"])
    assert all(line[name] for name in MANDATORY - {"ChargeClass"}), "a correction alone has a class"
    assert line["ChargeClass"] == ""
    assert all(line[name] for name in ("SkuId", "SkuPriceId", "PricingCategory", "ServiceSubcategory", "ChargeFrequency"))
    assert (line["ServiceCategory"], line["ServiceSubcategory"]) in SERVICES
    assert line["PricingUnit"] in {"Hours", "Months", "1000000 Tokens"}
    assert line["PricingCategory"] in {"Standard", "Dynamic", "Committed", "Other"}
    usage = line["ChargeCategory"] == "Usage"
    assert usage or line["ChargeCategory"] == "Purchase"
    assert line["ChargeFrequency"] == ("Usage-Based" if usage else "Recurring"), "a purchase is never usage-based"
    assert bool(line["ConsumedQuantity"]) == bool(line["ConsumedUnit"]) == usage
    committed = [value for name, value in line.items() if name.startswith("CommitmentDiscount")]
    assert all(committed) == any(committed) == (line["PricingCategory"] == "Committed")
    assert line["BillingPeriodStart"] < line["BillingPeriodEnd"]


def test_the_focus_bill_has_the_specifications_columns_ours_last() -> None:
    """The FOCUS export has every mandatory column, and puts our own after the specification's."""
    theirs = [name for name in COLUMNS if not name.startswith("x_")]
    assert set(theirs) <= FOCUS_1_2
    assert set(theirs) >= MANDATORY
    assert [*COLUMNS] == [*theirs, *(name for name in COLUMNS if name.startswith("x_"))]
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_the_focus_bill_adds_up_to_each_alternative(exported: tuple[Path, Verdict, RunVerdict]) -> None:
    """The FOCUS charges of each alternative sum to its monthly cost in the verdict."""
    folder, verdict, best = exported
    lines = focus_lines(folder)
    assert tuple(lines[0]) == COLUMNS
    totals: dict[str, float] = {}
    for line in lines:
        assert_is_focus(line)
        assert line["BilledCost"] == line["EffectiveCost"]
        totals[line["x_Alternative"]] = totals.get(line["x_Alternative"], 0.0) + float(line["EffectiveCost"])
    for r in verdict.runs:
        assert totals[r.run] == pytest.approx(r.cost_today.total)
    for c in best.comparisons:
        assert totals[f"{c.price.model} at {c.price.host}"] == pytest.approx(c.api_usd_per_month)


def test_a_reserved_machine_shows_its_list_price_beside_what_it_costs(tmp_path: Path) -> None:
    """A reserved machine is billed at its reserved rate, with the on-demand rate as list price."""
    prices = tmp_path / "prices"
    prices.mkdir()
    for name in ("api.yaml", "instances.yaml"):
        reserved = "on_demand: 0.08925\n    reserved_1y: 0.0567"
        (prices / name).write_text((PRICES / name).read_text().replace("on_demand: 0.08925", reserved))
    write_summaries(tmp_path)
    asks = asked(**ECONOMICS["loaded"], purchase="reserved_1y")
    verdict, _ = run(asks, tmp_path, prices, allow_invalid=False)
    write_all(tmp_path, verdict)
    lines = [line for line in focus_lines(tmp_path) if line["ServiceCategory"] == "Compute"]
    assert lines
    for line in lines:
        assert_is_focus(line)
        assert line["PricingCategory"] == "Committed"
        assert float(line["EffectiveCost"]) == pytest.approx(float(line["PricingQuantity"]) * 0.0567)
        assert float(line["ListUnitPrice"]) == pytest.approx(0.08925)
