"""The verdict as a workbook that computes: change an input, and capacity, bill, API costs and break-evens follow.

Every formula is written with the value that it has now, so that a viewer that does not compute shows the verdict too. What a
formula cannot follow (break-evens of a fleet that follows its demand, the cheapest mixture) says so beside it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenhour.breakeven.inputs import names
from tokenhour.breakeven.solve.from_verdict import position
from tokenhour.contracts.config.economics import ApiChoice, EconomicsSpec
from tokenhour.contracts.config.prices import ApiPrice, ContextTier
from tokenhour.contracts.records.verdict import Comparison, CostLines, RunVerdict, TrafficToday, Verdict
from tokenhour.contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK

INPUTS, MONTH, APIS, HOURS, SOURCES = "Inputs", "Month", "APIs", "Hours", "Sources"
SOLVED = "as solved; does not follow the inputs"


@dataclass(slots=True)
class LiveBook:
    """The workbook being written. `at` maps a name to the cell that holds it, such as volume -> Inputs!$B$3."""

    file: Any
    formats: Mapping[str, Any]
    at: dict[str, str] = field(default_factory=dict)
    value: dict[str, float] = field(default_factory=dict)

    def sheet(self, name: str, widths: tuple[float, ...]) -> Any:
        """Add a sheet with column widths."""
        made = self.file.add_worksheet(name)
        for column, width in enumerate(widths):
            made.set_column(column, column, width)
        made.hide_gridlines(2)
        return made

    def fill(self, formula: str) -> str:
        """Replace {name} in a formula by the cell of that name."""
        return "=" + formula.format(**self.at)


def to_xlsx(verdict: Verdict, best: RunVerdict) -> bytes:
    """Write the workbook of the best run beside every API."""
    import xlsxwriter

    spec, traffic = verdict.economics, verdict.traffic
    if spec is None or traffic is None:
        raise AssertionError
    buffer = io.BytesIO()
    file = xlsxwriter.Workbook(buffer, {"in_memory": True})
    file.set_properties({"title": f"{verdict.experiment}: own GPU or API?", "comments": "written by tokenhour"})
    file.set_calc_mode("auto")
    file.set_size(1600, 1200)
    book = LiveBook(file, _formats(file))
    book.value["classes"] = len(spec.request_classes)
    _inputs(book, verdict, best, spec, traffic)
    month = book.sheet(MONTH, (38, 18, 18, 16, 60))
    apis = book.sheet(APIS, (34, *[14.0] * 20))
    if best.fleet and best.fleet.scaling == "autoscale":
        _hours(book, verdict, best)
    _month(book, month, verdict, best)
    _apis(book, apis, verdict, best, spec, traffic)
    _sources(book, verdict)
    file.close()
    return buffer.getvalue()


def _formats(file: Any) -> dict[str, Any]:
    return {
        "head": file.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"}),
        "title": file.add_format({"bold": True, "font_size": 14}),
        "wrap": file.add_format({"text_wrap": True, "valign": "top"}),
        "in": file.add_format({"bg_color": "#FFF6D6", "border": 1, "num_format": "#,##0.######"}),
        "out": file.add_format({"num_format": "#,##0.00####"}),
        "usd": file.add_format({"num_format": '"$"#,##0.00####', "bold": True}),
        "soft": file.add_format({"font_color": "#555555", "italic": True}),
    }


def _inputs(book: LiveBook, verdict: Verdict, best: RunVerdict, spec: EconomicsSpec, traffic: TrafficToday) -> None:
    sheet = book.sheet(INPUTS, (46, 18, 16, 80))
    sheet.write(0, 0, verdict.sentence, book.formats["title"])
    sheet.write_row(1, 0, ("input (change the yellow cells)", "value", "origin", "source"), book.formats["head"])
    for row, (name, label, value, badge, source) in enumerate(_input_rows(verdict, best, spec, traffic), 2):
        sheet.write(row, 0, label)
        sheet.write_number(row, 1, value, book.formats["in"])
        sheet.write(row, 2, badge)
        sheet.write(row, 3, source)
        book.at[name], book.value[name] = f"{INPUTS}!$B${row + 1}", value
    sheet.freeze_panes(2, 0)


def _input_rows(
    verdict: Verdict, best: RunVerdict, spec: EconomicsSpec, traffic: TrafficToday
) -> Iterator[tuple[str, str, float, str, str]]:
    origin, row, fleet = best.origin, best.instance, best.fleet
    if origin is None or fleet is None:
        raise AssertionError
    machine_accelerators = row.accelerators if row else spec.owned.accelerators if spec.owned else 1
    hour = best.replica_usd_per_hour * machine_accelerators / origin.accelerators
    price = row.origin if row else "economics.owned"
    known = {a.name: a for a in verdict.assumptions}

    def said(name: str) -> tuple[str, str]:
        found = known.get(name)
        return (found.badge, found.source) if found else ("assumed", "scenario")

    yield "volume", "tokens a month, input plus output", traffic.tokens_per_month, *said(names.VOLUME)
    yield "prompt", "input tokens of a request", traffic.prompt_tokens, *said(names.MIX)
    yield "output", "output tokens of a request", traffic.output_tokens, *said(names.MIX)
    yield (
        "into",
        "input tokens an accelerator-hour at the SLO",
        origin.input_tokens_per_hour.value,
        origin.badge,
        origin.source,
    )
    yield (
        "out",
        "output tokens an accelerator-hour at the SLO",
        origin.output_tokens_per_hour.value,
        origin.badge,
        origin.source,
    )
    yield "had_prompt", "input tokens of a request, as measured", origin.prompt_tokens, origin.badge, origin.source
    yield "had_output", "output tokens of a request, as measured", origin.output_tokens, origin.badge, origin.source
    yield "accelerators", "accelerators of a replica", origin.accelerators, origin.badge, origin.source
    yield "hour", f"{best.machine}: USD an hour of the whole machine", hour, "quoted" if row else "assumed", price
    yield "machine_accelerators", "accelerators of the machine", machine_accelerators, "quoted" if row else "assumed", price
    yield "headroom", "share of the capacity that is planned for", spec.headroom, *said(names.HEADROOM)
    yield "redundancy", "spare replicas", fleet.redundancy, *said(names.SPARES)
    yield "least", "fewest replicas at any hour", fleet.min_replicas, *said(names.FLEET)
    yield "most", "largest fleet", fleet.max_replicas, *said(names.FLEET)
    yield "peak", "busiest hour over the mean hour", fleet.peak_to_mean, *said(names.TRAFFIC)
    yield "cold_h", "cold start, hours", fleet.cold_start_s / 3600, origin.badge, origin.source
    yield "ops_share", "operations as a share of the machines", spec.ops_share, *said(names.OPERATIONS)
    yield "ops", "operations, USD a month", spec.ops_usd_per_month, *said(names.OPERATIONS)
    yield "engineering", "engineering, USD a month", spec.engineering_usd_per_month, *said(names.ENGINEERING)
    yield "storage", "storage, USD a month", spec.storage_usd_per_month, *said(names.STORAGE)
    yield "egress", "egress, USD a month", spec.egress_usd_per_month, *said(names.EGRESS)
    yield "setup", "set-up, USD once", spec.setup_usd, *said(names.SETUP)
    yield "setup_months", "months over which set-up is spread", spec.setup_months, *said(names.SETUP)
    yield "ratio", "price of an output over an input token", spec.price_ratio, *said(names.RATIO)
    yield "cached", "share of input that an API bills as cached", traffic.cached_share, *said(names.CACHED)
    yield "written", "share of input that an API bills as cache writes", traffic.cache_write_share, *said(names.CACHED)
    yield "batch", "share of requests in an API's batch tier", traffic.batch_share, *said(names.CACHED)


def _hours(book: LiveBook, verdict: Verdict, best: RunVerdict) -> None:
    """Write the replicas of every hour; their mean and their starts go into the bill."""
    at = position(verdict, best)
    planned, u = at.curve.planned, at.tokens / at.replica_tokens
    n = at.curve.hourly(u)
    sheet = book.sheet(HOURS, (8, 26, 18, 18))
    sheet.write_row(0, 0, ("hour", "highest demand until a new replica is up", "replicas", "started"), book.formats["head"])
    last = len(planned) + 1
    for i, weight in enumerate(planned):
        row, before = i + 2, (i + 1 if i else last)
        sheet.write_number(i + 1, 0, i)
        sheet.write_number(i + 1, 1, float(weight), book.formats["in"])
        formula = f"=MAX(ROUNDUP({MONTH}!$B${_LOAD_ROW}*B{row},0)+{book.at['redundancy']},{book.at['least']})"
        sheet.write_formula(i + 1, 2, formula, book.formats["out"], float(n[i]))
        sheet.write_formula(i + 1, 3, f"=MAX(C{row}-C{before},0)", book.formats["out"], max(0.0, float(n[i] - n[i - 1])))
    book.at["hours_n"], book.at["hours_started"] = f"{HOURS}!$C$2:$C${last}", f"{HOURS}!$D$2:$D${last}"
    book.value["hours"] = len(planned)


_LOAD_ROW = 6


def _month(book: LiveBook, sheet: Any, verdict: Verdict, best: RunVerdict) -> None:
    sheet.write(0, 0, f"{best.run} on {best.machine}: a month", book.formats["title"])
    sheet.write_row(1, 0, ("line", "now", "verdict", "difference", "how"), book.formats["head"])
    for row, (name, label, formula, value) in enumerate(_month_rows(book, verdict, best), 2):
        book.at[name], book.value[name] = f"{MONTH}!$B${row + 1}", value
        style = book.formats["usd" if name.endswith("usd") else "out"]
        text = book.fill(formula)
        sheet.write(row, 0, label)
        sheet.write_formula(row, 1, text, style, value)
        sheet.write_number(row, 2, value, book.formats["out"])
        sheet.write_formula(row, 3, f"=B{row + 1}-C{row + 1}", book.formats["out"], 0.0)
        sheet.write_string(row, 4, text[1:], book.formats["soft"])
    sheet.freeze_panes(2, 1)


def _month_rows(book: LiveBook, verdict: Verdict, best: RunVerdict) -> Iterator[tuple[str, str, str, float]]:
    bill, at = best.cost_today, position(verdict, best)
    if bill is None:
        raise AssertionError
    u = at.tokens / at.replica_tokens
    months = float(at.curve.replica_months(_array(u))[0])
    mixed = (
        "IF(AND({prompt}={had_prompt},{output}={had_output}),{into}+{out},"
        "({into}/{ratio}+{out})/({prompt}/{ratio}+{output})*({prompt}+{output}))"
    )
    yield (
        "tokens_h",
        "tokens an accelerator-hour at this mix",
        mixed,
        at.replica_tokens / book.value["headroom"] / HOURS_PER_MONTH / book.value["accelerators"],
    )
    capacity = f"{{tokens_h}}*{{headroom}}*{HOURS_PER_MONTH:.0f}*{{accelerators}}"
    yield "capacity", "capacity of a replica, tokens a month", capacity, at.replica_tokens
    replica = f"{{hour}}*{{accelerators}}/{{machine_accelerators}}*{HOURS_PER_MONTH:.0f}"
    yield "machine_usd", "a replica's month, machine alone", replica, at.machine_usd
    yield "load", "volume in replicas", "{volume}/{capacity}", u
    if "hours_n" in book.at:
        count = f"SUM({{hours_n}})/{book.value['hours']}+{{cold_h}}/{book.value['hours']}*SUM({{hours_started}})"
    else:
        count = "MAX(ROUNDUP({load}*{peak},0)+{redundancy},{least})"
    yield "months", "replica-months, spares and starts included", count, months
    yield "gpu_usd", "machines", "{machine_usd}*{months}", at.machine_usd * months
    yield from _bill_rows(bill)
    mtok = verdict.tokens_per_month / TOKENS_PER_MTOK
    yield (
        "allocation_usd",
        "allocation cost, USD per M tokens",
        "IF({volume}>0,{total_usd}/{volume}*1000000,0)",
        (bill.total / mtok if mtok else 0.0),
    )
    yield (
        "usage_usd",
        "usage cost, USD per M tokens",
        "IF({volume}>0,{busy_usd}/{volume}*1000000,0)",
        (bill.gpu_busy / mtok if mtok else 0.0),
    )
    fixed = "{ops}+{engineering}+{storage}+{egress}+{setup}/{setup_months}"
    yield "fixed_usd", "whatever the volume", fixed, at.fixed_usd
    yield "replica_usd", "a replica's month with its operations", "{machine_usd}*(1+{ops_share})", at.replica_usd


def _bill_rows(bill: CostLines) -> Iterator[tuple[str, str, str, float]]:
    yield "busy_usd", "busy", "{machine_usd}*{load}", bill.gpu_busy
    yield "spare_usd", "spare replicas", "MIN({machine_usd}*{redundancy},{gpu_usd}-{busy_usd})", bill.redundancy
    yield "idle_usd", "idle", "MAX(0,{gpu_usd}-{busy_usd}-{spare_usd})", bill.gpu_idle
    yield "ops_usd", "operations", "{ops}+{ops_share}*{gpu_usd}", bill.ops
    rest = "{engineering}+{storage}+{egress}+{setup}/{setup_months}"
    others = bill.engineering + bill.storage + bill.egress + bill.setup
    yield "rest_usd", "engineering, storage, egress, set-up", rest, others
    yield "total_usd", "total", "{gpu_usd}+{ops_usd}+{rest_usd}", bill.total


def _array(value: float) -> Any:
    import numpy as np

    return np.array([value])


API_COLUMNS = (
    "API", "tokens for one of the served model's", "USD of its currency", "input, per M", "output, per M",
    "cache read, per M", "cache write, per M", "cached share", "batch share", "USD per M tokens", "by API a month",
    "own saves a month", "first break-even", "for good above", "replicas there", "utilization there", "do", "note", "source",
)  # fmt: skip


def _apis(
    book: LiveBook, sheet: Any, verdict: Verdict, best: RunVerdict, spec: EconomicsSpec, traffic: TrafficToday
) -> None:
    sheet.write(0, 0, "Every API beside one's own", book.formats["title"])
    sheet.write_row(1, 0, API_COLUMNS, book.formats["head"])
    plain = position(verdict, best).curve.plain
    tiers = len(best.comparisons) + 4
    sheet.write(tiers, 0, "Prices of long requests, per M", book.formats["head"])
    sheet.write_row(tiers, 1, ("above input tokens", "input", "output", "cache read", "cache write"), book.formats["head"])
    below = tiers + 1
    for index, (c, choice) in enumerate(zip(best.comparisons, spec.apis, strict=True)):
        row = index + 2
        long = sorted(c.price.context_tiers, key=lambda tier: tier.above_input_tokens)
        for offset, tier in enumerate(long):
            sheet.write(below + offset, 0, c.price.title)
            sheet.write_number(below + offset, 1, tier.above_input_tokens, book.formats["in"])
            _prices(book, sheet, below + offset, 2, tier)
        _api_inputs(book, sheet, row, c, choice, spec, traffic)
        _api_costs(book, sheet, row, c, range(below, below + len(long)))
        _api_crossings(book, sheet, row, c, plain=plain)
        below += len(long)
    sheet.freeze_panes(2, 1)


def _prices(book: LiveBook, sheet: Any, row: int, column: int, price: ApiPrice | ContextTier) -> None:
    for offset, name in enumerate(("input", "output", "cache_read", "cache_write")):
        value = getattr(price, name)
        if value is None:
            sheet.write_blank(row, column + offset, None, book.formats["in"])
        else:
            sheet.write_number(row, column + offset, float(value), book.formats["in"])


def _api_inputs(
    book: LiveBook, sheet: Any, row: int, c: Comparison, choice: ApiChoice, spec: EconomicsSpec, traffic: TrafficToday
) -> None:
    rate = 1.0 if c.price.currency == "USD" else spec.rates[c.price.currency].usd
    sheet.write(row, 0, c.price.title)
    sheet.write_number(row, 1, choice.tokens_ratio, book.formats["in"])
    sheet.write_number(row, 2, rate, book.formats["in"])
    _prices(book, sheet, row, 3, c.price)
    for column, own, name, value in (
        (7, choice.cached_share, "cached", traffic.cached_share),
        (8, choice.batch_share, "batch", traffic.batch_share),
    ):
        if own is None:
            sheet.write_formula(row, column, f"={book.at[name]}", book.formats["out"], value)
        else:
            sheet.write_number(row, column, own, book.formats["in"])
    sheet.write(row, 18, c.price.origin)


def _api_costs(book: LiveBook, sheet: Any, row: int, c: Comparison, tiers: range) -> None:
    n, out = row + 1, book.formats["out"]
    if book.value["classes"]:
        sheet.write_number(row, 9, c.blended_usd_per_mtok, out)
        sheet.write(row, 17, f"USD per M {SOLVED}: requests of several kinds")
    else:
        sheet.write_formula(row, 9, _blended(book, n, c, tiers), out, c.blended_usd_per_mtok)
    month = f"=J{n}*{book.at['volume']}/1000000"
    sheet.write_formula(row, 10, month, book.formats["usd"], c.api_usd_per_month)
    saving = c.api_usd_per_month - c.self_host_usd_per_month
    sheet.write_formula(row, 11, f"=K{n}-{book.at['total_usd']}", book.formats["usd"], saving)
    cheaper = f'=IF(L{n}>0,"self-host","stay")'
    sheet.write_formula(row, 16, cheaper, None, "self-host" if saving > 0 else "stay")


def _blended(book: LiveBook, n: int, c: Comparison, tiers: range) -> str:
    """Write the price of a mean request over its tokens; a missing cache price bills the input's."""
    into = f"({book.at['prompt']}*B{n})"

    def price(column: int, fallback: int | None = None) -> str:
        def cell(row: int, base: str) -> str:
            first = "DEFGHI"[column] if base == "row" else "CDEF"[column]
            mine = f"{first}{row}"
            if fallback is None:
                return mine
            other = f"{'DEFGHI'[fallback] if base == 'row' else 'CDEF'[fallback]}{row}"
            return f'IF({mine}="",{other},{mine})'

        found = cell(n, "row")
        for tier in tiers:
            found = f"IF({into}>B{tier + 1},{cell(tier + 1, 'tier')},{found})"
        return found

    def batch(name: str) -> str:
        factor = getattr(c.price.batch, name)
        return f"*(1-I{n}+I{n}*{float(factor)!r})" if factor is not None else ""

    written = book.at["written"]
    parts = (
        f"{into}*(1-H{n}-{written})*{price(0)}{batch('input')}",
        f"({book.at['output']}*B{n})*{price(1)}{batch('output')}",
        f"{into}*H{n}*{price(2, 0)}{batch('cache_read')}",
        f"{into}*{written}*{price(3, 0)}{batch('cache_write')}",
    )
    return f"=({'+'.join(parts)})*C{n}/({book.at['prompt']}+{book.at['output']})"


def _api_crossings(book: LiveBook, sheet: Any, row: int, c: Comparison, *, plain: bool) -> None:
    """Write first and lasting break-even: the closed form for a fixed fleet, else as solved."""
    n, out, never = row + 1, book.formats["out"], "never" if c.outcome == "never" else "beyond the fleet"
    first = never if c.first_tokens_per_month is None else c.first_tokens_per_month
    stable = never if c.stable_tokens_per_month is None else c.stable_tokens_per_month
    there = c.replicas_at_breakeven or 0
    if not plain:
        for column, value in ((12, first), (13, stable), (14, there), (15, c.utilization_at_breakeven or 0)):
            sheet.write(row, column, value, out)
        sheet.write(row, 17, f"break-evens {SOLVED}")
        return
    f, g, r, most = (book.at[k] for k in ("fixed_usd", "replica_usd", "redundancy", "most"))
    each = f"({book.at['capacity']}/{book.at['peak']})"
    p = f"(J{n}/1000000)"
    margin, spare = f"({p}*{each}-{g})", f"({f}+{g}*{r})"
    step = f"(INT({spare}/{margin})+1)"
    beyond = f'IF({step}>{most},"beyond the fleet"'
    onset = f"MAX(({f}+{g}*({{k}}+{r}))/{p},({{k}}-1)*{each})"
    last = f"MAX({step},ROUNDUP(({spare}+{g})/{margin},0))"
    sheet.write_formula(row, 14, f"=IF({margin}<=0,0,{step})", out, there if c.outcome != "beyond_capacity" else 0)
    sheet.write_formula(row, 12, f'=IF({margin}<=0,"never",{beyond},{onset.format(k=f"O{n}")}))', out, first)
    lasting = f'IF({last}>{most},"beyond the fleet",{onset.format(k=last)})'
    sheet.write_formula(row, 13, f'=IF({margin}<=0,"never",{lasting})', out, stable)
    use = f"=IF(ISNUMBER(M{n}),M{n}/{book.at['capacity']}/O{n},0)"
    sheet.write_formula(row, 15, use, out, c.utilization_at_breakeven or 0)


def _sources(book: LiveBook, verdict: Verdict) -> None:
    sheet = book.sheet(SOURCES, (34, 60, 12, 90))
    sheet.write_row(0, 0, ("input", "value", "origin", "source"), book.formats["head"])
    for row, a in enumerate(verdict.assumptions, 1):
        sheet.write_row(row, 0, (a.name, a.value, a.badge, a.source), book.formats["wrap"])
    for row, warning in enumerate(verdict.warnings, len(verdict.assumptions) + 2):
        sheet.write(row, 0, "warning")
        sheet.write(row, 1, warning, book.formats["wrap"])
