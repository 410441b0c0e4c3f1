"""The month's bill of every alternative in the column names of FOCUS, the FinOps Open Cost and Usage Specification 1.2.

Each run's bill and each API's is an alternative, not a charge that anybody has billed: `x_Alternative` tells them apart, and
a sum over more than one of them means nothing. `x_Origin` is the badge of the price, `x_Source` where it comes from.

A machine's hours and an API's tokens are Usage; people, storage, egress and set-up recur whatever is used, so they are a
Purchase of one month. A reserved machine is priced at its list price by the hour and costs its reserved one (Committed).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

from tokenhour.breakeven.prices.tables import hourly_usd
from tokenhour.breakeven.report.exports.csv_json import csv_bytes
from tokenhour.contracts.records.verdict import Comparison, RunVerdict, Verdict
from tokenhour.contracts.units import HOURS_PER_MONTH, TOKENS_PER_MTOK

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "ListUnitPrice", "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName",
    "ServiceSubcategory", "SkuId", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
    "x_Alternative", "x_CostLine", "x_Origin", "x_Source",
)  # fmt: skip
UNIT_PRICES = ("ContractedUnitPrice", "ListUnitPrice")
SELLERS = ("ProviderName", "PublisherName", "InvoiceIssuerName")
SKUS = ("SkuId", "SkuPriceId")
PRICING = {"on_demand": "Standard", "spot": "Dynamic", "reserved_1y": "Committed", "reserved_3y": "Committed"}
MACHINE_LINES = {"gpu_busy": "busy", "gpu_idle": "idle", "redundancy": "spare"}
OTHER_LINES = (
    ("ops", "operations", "Management and Governance", "Other (Management and Governance)"),
    ("engineering", "engineering", "Other", "Other (Other)"),
    ("storage", "storage", "Storage", "Other (Storage)"),
    ("egress", "egress", "Networking", "Network Connectivity"),
    ("setup", "set-up, spread", "Other", "Other (Other)"),
)


def to_focus(verdict: Verdict) -> bytes:
    """Write a row for each cost line of each run, and one for each API."""
    best = verdict.best
    made = [line for run in verdict.runs if run.cost_today for line in _run(verdict, run)]
    made += [_api(verdict, c) for c in (best.comparisons if best else ())]
    return csv_bytes(COLUMNS, made)


def _common(verdict: Verdict, alternative: str, usd: float) -> dict[str, Any]:
    start = verdict.on_date.replace(day=1)
    end = (start + dt.timedelta(days=32)).replace(day=1)
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"), repr(usd)),
        **dict.fromkeys(("BillingPeriodStart", "ChargePeriodStart"), f"{start}T00:00:00Z"),
        **dict.fromkeys(("BillingPeriodEnd", "ChargePeriodEnd"), f"{end}T00:00:00Z"),
        **dict.fromkeys(("BillingAccountId", "BillingAccountName"), verdict.experiment),
        **dict.fromkeys(("SubAccountId", "SubAccountName", "x_Alternative"), alternative),
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "Tags": json.dumps({"tokenhour/experiment": verdict.experiment, "tokenhour/projected": "true"}),
    }


def _run(verdict: Verdict, run: RunVerdict) -> Iterator[dict[str, Any]]:
    bill = run.cost_today
    if bill is None:
        raise AssertionError
    for field in MACHINE_LINES:
        usd = getattr(bill, field)
        if usd:
            yield _common(verdict, run.run, usd) | _machine(verdict, run, usd, field)
    for field, name, category, subcategory in OTHER_LINES:
        usd = getattr(bill, field)
        if usd:
            yield _common(verdict, run.run, usd) | {
                "ChargeCategory": "Purchase",
                "ChargeDescription": f"{run.run}: {name}",
                "ChargeFrequency": "Recurring",
                **dict.fromkeys(UNIT_PRICES, repr(usd)),
                **dict.fromkeys(SELLERS, "self-hosted"),
                **dict.fromkeys(SKUS, f"self-hosted/{field}"),
                "PricingQuantity": "1",
                "PricingUnit": "Months",
                "PricingCategory": "Other",
                "ServiceCategory": category,
                "ServiceName": name,
                "ServiceSubcategory": subcategory,
                "x_CostLine": field,
                "x_Origin": "assumed",
                "x_Source": "scenario",
            }


def _list_usd(verdict: Verdict, run: RunVerdict, option: str) -> float:
    """Return a replica's hour without a commitment: by the hour where it is reserved and the row has that price."""
    row, rates = run.instance, verdict.economics.rates if verdict.economics else {}
    if row is None or row.on_demand is None or PRICING.get(option) != "Committed" or run.origin is None:
        return run.replica_usd_per_hour
    return hourly_usd(row, "on_demand", rates) * run.origin.accelerators / row.accelerators


def _committed(run: RunVerdict, option: str, hours: float) -> dict[str, Any]:
    if PRICING.get(option) != "Committed" or run.instance is None:
        return {}
    return {
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": f"{run.instance.cloud}/{run.instance.instance}/{option}",
        "CommitmentDiscountName": f"{run.instance.instance}, {option}",
        "CommitmentDiscountQuantity": repr(hours),
        "CommitmentDiscountStatus": "Used",
        "CommitmentDiscountType": "Reserved",
        "CommitmentDiscountUnit": "Hours",
    }


def _machine(verdict: Verdict, run: RunVerdict, usd: float, line: str) -> dict[str, Any]:
    row, hours = run.instance, usd / run.replica_usd_per_hour if run.replica_usd_per_hour else 0.0
    option = verdict.economics.purchase if verdict.economics else ""
    listed = _list_usd(verdict, run, option)
    return {
        **_committed(run, option, hours),
        **dict.fromkeys(("ContractedCost", "ListCost"), repr(listed * hours)),
        **dict.fromkeys(UNIT_PRICES, repr(listed)),
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), repr(hours)),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "Hours"),
        **dict.fromkeys(SELLERS, row.cloud if row else "self-hosted"),
        **dict.fromkeys(("RegionId", "RegionName"), row.region if row else ""),
        **dict.fromkeys(("ResourceId", "ResourceName"), run.run),
        **dict.fromkeys(("ServiceName", "SkuId"), row.instance if row else run.machine),
        "ChargeDescription": f"{run.run}: replica hours, {MACHINE_LINES[line]} ({HOURS_PER_MONTH:.0f} h a month)",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": PRICING.get(option, "Other"),
        "ResourceType": row.accelerator if row else "owned machine",
        "ServiceCategory": "Compute",
        "ServiceSubcategory": "Virtual Machines",
        "SkuPriceId": f"{row.instance}/{option}" if row else run.machine,
        "x_CostLine": line,
        "x_Origin": "quoted" if row else "assumed",
        "x_Source": row.origin if row else "scenario",
    }


def _api(verdict: Verdict, c: Comparison) -> dict[str, Any]:
    price, mtok = c.price, verdict.tokens_per_month / TOKENS_PER_MTOK
    return _common(verdict, price.name, c.api_usd_per_month) | {
        "ChargeDescription": f"{price.name}: input and output at today's mix, per million tokens of the served model",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": repr(verdict.tokens_per_month),
        "ConsumedUnit": "Tokens",
        **dict.fromkeys(UNIT_PRICES, repr(c.blended_usd_per_mtok)),
        **dict.fromkeys(SELLERS, price.host),
        **dict.fromkeys(("ServiceName", "SkuId"), price.model),
        "PricingCategory": "Standard",
        "PricingQuantity": repr(mtok),
        "PricingUnit": "1000000 Tokens",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SkuPriceId": f"{price.model}/{price.host}",
        "x_CostLine": "api",
        "x_Origin": "quoted",
        "x_Source": price.origin,
    }
