"""`tokenhour breakeven`."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tokenhour.breakeven.cli.calculators import crossings, token_cost
from tokenhour.breakeven.cli.prices import prices
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.package_data import described, prices_folder

if TYPE_CHECKING:
    from tokenhour.contracts.records.verdict import Verdict

FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
RESULTS = click.option("--results", default=Path("results"), type=click.Path(path_type=Path), show_default=True)
PRICES = click.option(
    "--prices",
    default=prices_folder,
    type=click.Path(path_type=Path),
    show_default="configs/prices here, else the tables that come with tokenhour",
    help="Folder of api.yaml and instances.yaml.",
)
ALLOW = click.option("--allow-invalid", is_flag=True, help="Use INVALID measurements too; they are marked everywhere.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
WIDER = {
    "portfolio": "Say which side each feature of a team belongs on, replicas shared and counted once.",
    "levers": "Compound the savings per cost line, measured figures before ranges.",
    "spot": "Say whether interruptible machines pay, for batch work and for serving.",
    "commitments": "Say how much to reserve against the demand, over several clouds as one portfolio.",
    "training": "Find when using a model has cost more than training it.",
    "efficiency": "Set the value of a month against what it costs, by API and of one's own.",
}


@click.group("breakeven", context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """At which volume your own GPU beats which API.

    \b
    Examples:
      tokenhour breakeven solve configs/experiments/demo.yaml
      tokenhour breakeven solve configs/scenarios/support-bot.yaml
      tokenhour breakeven portfolio configs/scenarios/team.yaml --json
      tokenhour breakeven recheck results/
      tokenhour breakeven prices list --model llama
      tokenhour breakeven crossings --replica-usd 1000 --replica-tokens 1e9 --api-usd-per-mtok 1.3
      tokenhour breakeven token-cost --usd-per-hour 6.98 --output-tps 2464.4
    """


cli.add_command(crossings)
cli.add_command(token_cost)
cli.add_command(prices)


@cli.command("solve")
@FILE
@RESULTS
@PRICES
@ALLOW
@JSON
def solve(file: Path, results: Path, prices: Path, allow_invalid: bool, as_json: bool) -> None:
    """Solve break-even for FILE (an experiment or a scenario) against every API that it names.

    \b
    Examples:
      tokenhour breakeven solve configs/experiments/demo.yaml
      tokenhour breakeven solve configs/scenarios/support-bot.yaml --json
    """
    from tokenhour.breakeven.stage import load, run

    found, reused = run(load(file), results, prices, allow_invalid=allow_invalid)
    if as_json:
        print(found.to_json().decode(), end="")
        return
    from tokenhour.breakeven.cli.terminal import print_verdict

    print_verdict(found)
    said = " (reused: nothing that it stands on has changed)" if reused else ""
    print(f"{results / found.experiment / found.file_name}{said}")
    print(f"prices: {described(prices)}")


def _wider(name: str, about: str) -> click.Command:
    """Make the command of one of the wider questions."""

    @FILE
    @RESULTS
    @PRICES
    @ALLOW
    @JSON
    def command(file: Path, results: Path, prices: Path, allow_invalid: bool, as_json: bool) -> None:
        from tokenhour.breakeven.stage import answer, load

        found = answer(load(file), results, prices, allow_invalid=allow_invalid)
        data = _section_data(found, name)
        if not data:
            raise InputError(
                f"asks nothing about {name}",
                where=f"{file}: economics.{name}",
                remedy="add that section (configs/scenarios/ has examples), or name a file that has it",
            )
        if as_json:
            print(json.dumps(data, indent=2))
            return
        from tokenhour.breakeven.cli.terminal import print_section
        from tokenhour.breakeven.report.tables import sections

        for section in sections(found):
            if section.name.startswith(name.removesuffix("s")):
                print_section(section)
        print(f"prices: {described(prices)}")

    command.__doc__ = f"{about}\n\n\b\nExample:\n  tokenhour breakeven {name} configs/scenarios/team.yaml\n"
    return click.command(name)(command)


def _section_data(found: Verdict, name: str) -> Any:
    if name == "efficiency":
        data = found.model_dump(mode="json", include={"runs": {"__all__": {"run": True, "comparisons": True}}})
        return [
            {"run": run["run"], "model": c["price"]["model"], "host": c["price"]["host"], **c["efficiency"]}
            for run in data["runs"]
            for c in run["comparisons"]
            if c["efficiency"]
        ]
    part = getattr(found, name)
    return part.model_dump(mode="json") if part else None


for _name, _about in WIDER.items():
    cli.add_command(_wider(_name, _about))


@cli.command("recheck")
@click.argument("results", type=click.Path(path_type=Path))
@PRICES
@click.option(
    "--on", "on_date", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Prices of this day; today's if left out."
)
@JSON
def recheck(results: Path, prices: Path, on_date: dt.datetime | None, as_json: bool) -> None:
    """Say which past verdicts below RESULTS would flip at today's prices.

    \b
    Examples:
      tokenhour breakeven recheck results/
      tokenhour breakeven recheck results/demo --on 2027-01-01 --json
    """
    from tokenhour.breakeven.prices.tables import load_tables
    from tokenhour.breakeven.recheck import recheck as again
    from tokenhour.breakeven.stage import today_utc
    from tokenhour.contracts.records.verdict import Verdict

    files = sorted({*results.glob("verdict.json"), *results.glob("*/verdict.json")})
    if not files:
        raise InputError(
            "no verdict is here", where=str(results), remedy="name the folder of the run folders, such as results/"
        )
    tables, on = load_tables(prices), on_date.date() if on_date else today_utc()
    found = [row for file in files for row in again(Verdict.read(file), tables, on)]
    if as_json:
        rows = [
            {name: getattr(row, name) for name in (*row.__dataclass_fields__, "flips")} | {"solved_on": str(row.solved_on)}
            for row in found
        ]
        print(json.dumps(rows, indent=2))
        return
    from tokenhour.breakeven.cli.terminal import print_recheck

    print_recheck(found, on)
    print(f"prices: {described(prices)}")
