"""`tokenhour breakeven prices`."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import click

from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.io.package_data import described, prices_folder

FOLDER = click.option(
    "--prices",
    default=prices_folder,
    type=click.Path(path_type=Path),
    show_default="configs/prices here, else the tables that come with tokenhour",
    help="Folder of api.yaml and instances.yaml.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
SOURCES = ("genai-prices", "litellm")


@click.group("prices")
def prices() -> None:
    """List, check and import dated prices.

    \b
    Examples:
      tokenhour breakeven prices list --model llama-3.1
      tokenhour breakeven prices check
      tokenhour breakeven prices import litellm model_prices_and_context_window.json > more.yaml
    """


@prices.command("list")
@FOLDER
@click.option("--model", default="", help="Rows whose model, GPU or instance contains this.")
@click.option("--host", default="", help="Rows of this host or cloud.")
@click.option("--on", "on_date", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Only rows in force on this day.")
@JSON
def list_(prices: Path, model: str, host: str, on_date: dt.datetime | None, as_json: bool) -> None:
    """List the rows of the price tables.

    \b
    Examples:
      tokenhour breakeven prices list
      tokenhour breakeven prices list --model H100 --json
      tokenhour breakeven prices list --host google --on 2027-02-01
    """
    from tokenhour.breakeven.prices.listing import chosen, print_rows
    from tokenhour.breakeven.prices.tables import load_tables

    found = chosen(load_tables(prices), model, host, on_date.date() if on_date else None)
    if as_json:
        print(json.dumps([row.model_dump(mode="json") for row in found], indent=2))
        return
    print_rows(found)
    print(f"prices: {described(prices)}")


@prices.command("check")
@FOLDER
@click.option("--max-age-days", type=int, default=120, show_default=True, help="Older rows are reported.")
@click.option("--against", type=click.Path(path_type=Path), default=None, help="A LiteLLM JSON to compare with.")
@click.option("--genai-prices", "with_genai", is_flag=True, help="Compare with the installed genai-prices too.")
@JSON
def check(prices: Path, max_age_days: int, against: Path | None, with_genai: bool, as_json: bool) -> None:
    """Check schema, age, ends of models and disagreement above 5 % between sources. Exit 1 when a price must be checked.

    \b
    Examples:
      tokenhour breakeven prices check
      tokenhour breakeven prices check --genai-prices --against model_prices_and_context_window.json
    """
    from tokenhour.breakeven.prices.check import findings
    from tokenhour.breakeven.prices.from_genai_prices import from_genai_prices
    from tokenhour.breakeven.prices.from_litellm import from_litellm
    from tokenhour.breakeven.prices.tables import load_tables

    on = dt.datetime.now(dt.UTC).date()
    tables = load_tables(prices)
    others = [*(from_litellm(against, on) if against else ()), *(from_genai_prices(None, on) if with_genai else ())]
    found = findings(tables, others, on, max_age_days)
    if as_json:
        print(json.dumps([{"kind": f.kind, "row": f.row, "what": f.what} for f in found], indent=2))
    else:
        for finding in found:
            print(f"{finding.kind}: {finding.row}: {finding.what}")
        print(
            f"{len(tables.apis)} API rows, {len(tables.instances)} machine rows, {len(found)} findings ({described(prices)})"
        )
    wrong = [finding for finding in found if not finding.is_note]
    if wrong:
        raise RunFailedError(
            f"{len(wrong)} prices to check", where=str(prices), remedy="check each, and append a row where it changed"
        )


@prices.command("import")
@click.argument("source", type=click.Choice(SOURCES))
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--model", default="", help="Only models whose name contains this.")
@click.option("--host", default="", help="Only this host.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="A new file; printed when left out.")
def import_(source: str, file: Path | None, model: str, host: str, out: Path | None) -> None:
    """Turn SOURCE (genai-prices or litellm, with FILE) into rows of configs/prices/api.yaml, to be reviewed and appended.

    \b
    Examples:
      tokenhour breakeven prices import genai-prices --model gpt-4o-mini
      tokenhour breakeven prices import litellm model_prices_and_context_window.json --host groq --out groq.yaml
    """
    from tokenhour.breakeven.prices.importer import as_yaml, imported

    rows = imported(source, file, dt.datetime.now(dt.UTC).date(), model, host)
    text = as_yaml(rows)
    if out is None:
        print(text, end="")
        return
    from tokenhour.contracts.io.atomic_io import write_bytes_atomic

    write_bytes_atomic(out, text.encode(), overwrite=False)
    print(f"{len(rows)} rows: {out}")
