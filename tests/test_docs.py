"""The documents are true: examples validate, commands exist, links lead somewhere."""

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import tokenhour.contracts as contracts
from tests import ROOT
from tokenhour.breakeven.prices.tables import instance_price, load_tables
from tokenhour.cli import cli
from tokenhour.contracts.config.experiment import Experiment
from tokenhour.contracts.config.prices import ApiPriceTable
from tokenhour.contracts.config.scenario import Scenario
from tokenhour.contracts.io.yaml_loader import validate_yaml
from tokenhour.contracts.record import Record

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
KINDS = {"experiment": Experiment, "scenario": Scenario, "api-prices": ApiPriceTable}
COOKBOOK = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/cookbook.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(COOKBOOK)))
def test_the_cookbooks_examples_validate_and_are_priced(tmp_path: Path, number: int) -> None:
    """Whoever copies an example gets a valid file whose machine and APIs have prices."""
    file = tmp_path / "example.yaml"
    file.write_text(COOKBOOK[number])
    kind = COOKBOOK[number].split("\n", 1)[0].removeprefix("record: ")
    found: Any = validate_yaml(KINDS[kind], file)
    if not isinstance(found, ApiPriceTable):
        economics, tables = found.economics, load_tables(ROOT / "configs/prices")
        day = max(row.checked_on for row in tables.instances)
        assert instance_price(tables, economics.hardware, economics.cloud, economics.region, day)
        assert all(any((row.model, row.host) == (a.model, a.host) for row in tables.apis) for a in economics.apis)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each `tokenhour ...` in a code block or between backticks."""
    for match in re.finditer(r"(?:^    |`)(?:\.venv/bin/)?tokenhour ([^`\n>]+)", text, re.MULTILINE):
        yield shlex.split(match[1].split(" -- ")[0].split("; ")[0], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    """No page tells a reader to type a command or option that the CLI does not have."""
    for words in commands(page.read_text()):
        command: Any = cli
        context = click.Context(cli)
        rest = list(words)
        while isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "<", "[", ".")):
            found = [command.get_command(context, name) for name in rest.pop(0).split("|")]
            assert all(found), words
            command = found[0]
        known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
        used = {word.split("=")[0] for word in rest if word.startswith("--") and word != "--"}
        assert used <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    """Relative links in the README and docs point at files that exist."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_record_has_a_generated_page() -> None:
    """Each kind of record is documented under docs/records."""
    for module in pkgutil.walk_packages(contracts.__path__, "tokenhour.contracts."):
        importlib.import_module(module.name)
    kinds = {kind.kind() for kind in records(Record)}
    assert kinds
    assert kinds <= {page.stem for page in (ROOT / "docs/records").glob("*.md")}


def records(kind: type[Record]) -> Iterator[type[Record]]:
    """Yield every record type below this one."""
    for below in kind.__subclasses__():
        yield below
        yield from records(below)
