"""Imported prices are those that were seen in the packages on 2026-11-23 (economics.md, Prices)."""

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from tokenhour.breakeven.cli import cli
from tokenhour.breakeven.prices.check import disagreement, findings
from tokenhour.breakeven.prices.from_genai_prices import from_genai_prices
from tokenhour.breakeven.prices.from_litellm import from_litellm
from tokenhour.breakeven.prices.importer import as_yaml, imported
from tokenhour.breakeven.prices.row_factory import canonical
from tokenhour.breakeven.prices.tables import Mix, in_force, load_tables, request_usd
from tokenhour.contracts.config.prices import ApiPrice, ApiPriceTable
from tokenhour.contracts.errors import InputError, RunFailedError

ON = dt.date(2026, 11, 24)
LITELLM = Path(__file__).parents[1] / "litellm.json"
GENAI = Path(__file__).parents[1] / "genai_prices.json"
PRICES = Path("configs/prices")
SEEN = {
    ("gpt-4o-mini", "openai"): (".15", ".60", ".075"),
    ("gpt-5-mini", "openai"): (".25", "2.00", ".025"),
    ("gpt-5.4-mini", "openai"): (".75", "4.50", ".075"),
    ("claude-haiku-4-5", "anthropic"): ("1", "5", ".10"),
    ("claude-haiku-5-5", "anthropic"): (".10", ".50", ".01"),
    ("gemini-3.1-flash-lite", "google"): (".25", "1.50", ".025"),
    ("gemini-3.8-flash", "google"): (".75", "3.75", None),
    ("llama-3.1-8b-instruct", "bedrock"): (".22", ".22", None),
    ("llama-3.1-8b-instruct", "groq"): (".05", ".08", None),
    ("llama-3.1-8b-instruct", "novita"): (".02", ".05", None),
    ("llama-3.3-70b-instruct", "bedrock"): (".72", ".72", None),
}


def row(rows: Sequence[ApiPrice], model: str, host: str, on: dt.date = ON) -> ApiPrice | None:
    """Return the price of a model at a host that is in force on a day."""
    return in_force([r for r in rows if (r.model, r.host) == (model, host)], on)


@pytest.fixture(scope="module")
def genai() -> list[ApiPrice]:
    """The package itself, as `pip install 'tokenhour[prices]'` brings it."""
    return list(from_genai_prices(None, ON))


@pytest.fixture(scope="module")
def litellm() -> list[ApiPrice]:
    """Entries of LiteLLM 1.110.2's file, as they stand there."""
    return list(from_litellm(LITELLM, ON))


def agrees(found: ApiPrice | None, expected: tuple[str | None, ...]) -> None:
    """Assert that input, output and, where known, cached prices are as expected."""
    into, out, cached = (Decimal(x) if x else None for x in expected)
    assert (found.input, found.output) == (into, out)
    assert cached is None or found.cache_read == cached


@pytest.mark.parametrize("key", SEEN, ids="-".join)
def test_genai_prices_gives_what_was_seen(genai: list[ApiPrice], key: tuple[str, str]) -> None:
    """Prices imported from genai-prices match those read in the package by hand."""
    agrees(row(genai, *key), SEEN[key])


@pytest.mark.parametrize(
    "key", [k for k in SEEN if k[0] in {"gpt-4o-mini", "gpt-5-mini", "claude-haiku-4-5", "claude-haiku-5-5"}], ids="-".join
)
def test_litellm_gives_what_was_seen(litellm: list[ApiPrice], key: tuple[str, str]) -> None:
    """Prices imported from LiteLLM's file match those read there by hand."""
    agrees(row(litellm, *key), SEEN[key])


def test_batch_factors_are_taken_where_they_are_given_and_never_made_up(
    genai: list[ApiPrice], litellm: list[ApiPrice]
) -> None:
    """gpt-4o-mini batch .075/.30, claude-haiku-4-5 batch .5/2.5; of Bedrock's batch genai-prices knows nothing."""
    for rows in (genai, litellm):
        mini = row(rows, "gpt-4o-mini", "openai")
        assert request_usd(mini, Mix(1e6, 0, batch_share=1.0)) == pytest.approx(0.075)
        assert request_usd(mini, Mix(0, 1e6, batch_share=1.0)) == pytest.approx(0.30)
    haiku = row(genai, "claude-haiku-4-5", "anthropic")
    assert request_usd(haiku, Mix(0, 1e6, batch_share=1.0)) == pytest.approx(2.5)
    assert haiku.cache_write == Decimal("1.25")
    bedrock = row(genai, "llama-3.1-8b-instruct", "bedrock")
    assert bedrock.batch.input is None
    with pytest.raises(InputError, match="no batch price"):
        request_usd(bedrock, Mix(1, 1, batch_share=0.5))


def test_tiers_and_future_prices_come_along(genai: list[ApiPrice]) -> None:
    """Context tiers and announced price changes are imported too, so later bills are not underestimated."""
    tier = row(genai, "claude-haiku-5-5", "anthropic").context_tiers[0]
    assert (tier.above_input_tokens, tier.input, tier.output) == (100_000, Decimal("0.5"), Decimal("2.5"))
    assert row(genai, "gemini-3.8-flash", "google", dt.date(2027, 1, 1)).input == Decimal("1.5")
    assert row(genai, "gemini-3.8-flash", "google", dt.date(2026, 12, 31)).input == Decimal("0.75")


def test_the_end_of_a_model_comes_along(litellm: list[ApiPrice]) -> None:
    """The date on which a model is withdrawn is imported with its price."""
    assert row(litellm, "gpt-5-mini", "openai").deprecated_on == dt.date(2026, 12, 11)


def test_a_disagreement_above_5_percent_is_reported(genai: list[ApiPrice], litellm: list[ApiPrice]) -> None:
    """Llama 3.1 8B at Fireworks: .20/.20 in one source, .10/.10 in the other; 3.3 70B at Together: .88 against 1.04."""
    for model, host in (("llama-3.1-8b-instruct", "fireworks"), ("llama-3.3-70b-instruct", "together")):
        assert disagreement(row(genai, model, host), row(litellm, model, host))
    assert not disagreement(row(genai, "gpt-4o-mini", "openai"), row(litellm, "gpt-4o-mini", "openai"))
    found = findings(load_tables(PRICES), [*genai, *litellm], ON, 120)
    disputed = {f.row for f in found if f.kind == "disagreement"}
    assert disputed == {"llama-3.1-8b-instruct at fireworks", "llama-3.3-70b-instruct at together"}


def test_our_tables_agree_with_the_package_that_they_were_read_from(genai: list[ApiPrice]) -> None:
    """The shipped price tables do not contradict the package they were taken from."""
    found = findings(load_tables(PRICES), genai, ON, 120)
    assert [f for f in found if f.kind == "disagreement"] == []


def test_the_package_and_its_json_are_read_alike(genai: list[ApiPrice]) -> None:
    """Importing from the installed package or from its JSON file gives the same prices."""
    (one,) = [r for r in from_genai_prices(GENAI, ON) if r.model == "gpt-4o-mini"]
    same = row(genai, "gpt-4o-mini", "openai")
    assert one.model_dump(exclude={"source", "source_url"}) == same.model_dump(exclude={"source", "source_url"})


def test_what_is_imported_is_a_table_that_can_be_read_again(litellm: list[ApiPrice]) -> None:
    """Imported YAML is a valid price table whose rows can be copied one by one."""
    text = as_yaml(litellm)
    assert ApiPriceTable.model_validate(yaml.safe_load(text)).prices == tuple(litellm)
    assert not re.search(r": [&*]", text), "each row can be copied alone"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("meta.llama3-1-8b-instruct-v1:0", "llama-3.1-8b-instruct"),
        ("llama-3.1-8b-instant", "llama-3.1-8b-instruct"),
        ("fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct", "llama-3.1-8b-instruct"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama-3.3-70b-instruct"),
        ("meta-llama/llama-3.1-8b-instruct-bf16", "llama-3.1-8b-instruct-bf16"),
        ("gpt-4o-mini", "gpt-4o-mini"),
    ],
)
def test_models_have_one_name(theirs: str, ours: str) -> None:
    """The hosts' different names for one model map to a single name, so their prices can be compared."""
    assert canonical(theirs) == ours


@pytest.mark.parametrize(
    ("source", "text", "said"),
    [
        ("litellm", "[1]", "holds a list"),
        ("litellm", "{", "is not JSON"),
        (
            "litellm",
            '{"m": {"mode": "chat", "litellm_provider": "openai", "input_cost_per_token": -1, "output_cost_per_token": 0}}',
            "is no price",
        ),
        (
            "litellm",
            '{"m": {"mode": "chat", "litellm_provider": "x", "input_cost_per_token": 0, "output_cost_per_token": "NaN"}}',
            "is no price",
        ),
        ("genai-prices", "{}", "holds a dict"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, source: str, text: str, said: str) -> None:
    """A broken price file is rejected with its path, the fault and a remedy."""
    file = tmp_path / "theirs.json"
    file.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        imported(source, file, ON)
    assert str(file) in caught.value.where
    assert caught.value.remedy


def test_what_matches_nothing_lists_the_nearest(tmp_path: Path) -> None:
    """An import that finds nothing suggests the nearest model or says what is missing."""
    with pytest.raises(InputError) as caught:
        imported("litellm", LITELLM, ON, model="gpt-4o-minny")
    assert "gpt-4o-mini" in caught.value.remedy
    (tmp_path / "empty.json").write_text('{"m": {"mode": "image"}}')
    with pytest.raises(InputError, match="no row matches") as caught:
        imported("litellm", tmp_path / "empty.json", ON)
    assert "no text model" in caught.value.remedy
    with pytest.raises(InputError, match="needs its file"):
        imported("litellm", None, ON)
    with pytest.raises(InputError, match="cannot be read"):
        imported("litellm", tmp_path / "none.json", ON)


def test_without_the_package_the_remedy_says_how_to_get_it() -> None:
    """Importing without the package installed names the extra that installs it."""
    code = (
        "import sys, datetime as dt; sys.modules['genai_prices'] = None\n"
        "from tokenhour.contracts.errors import exit_code_of\nfrom tokenhour.breakeven.prices.importer import imported\n"
        "sys.exit(exit_code_of(lambda: imported('genai-prices', None, dt.date(2026, 11, 24))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tokenhour[prices]" in done.stderr


def run(*arguments: str) -> Result:
    """Run the prices command with these arguments."""
    return CliRunner().invoke(cli, ["prices", *arguments], catch_exceptions=False)


def test_the_shell_imports_lists_and_checks(tmp_path: Path) -> None:
    """The prices command imports into a file, lists by model, host or date, and rejects unknown models."""
    done = run("import", "litellm", str(LITELLM), "--model", "gpt-4o-mini", "--host", "openai")
    assert "input: 0.15" in done.stdout
    out = tmp_path / "more.yaml"
    assert run("import", "litellm", str(LITELLM), "--out", str(out)).exit_code == 0
    assert out.is_file()
    assert "gpt-4o-mini" in run("list", "--model", "4o-mini").stdout
    listed = json.loads(run("list", "--host", "google", "--on", "2027-02-01", "--json").stdout)
    assert {(r["model"], r["input"]) for r in listed} == {("gemini-3.1-flash-lite", "0.25"), ("gemini-3.8-flash", "1.5")}
    with pytest.raises(InputError, match="no price matches"):
        run("list", "--model", "gpt-9")


def test_the_check_finds_old_doubled_ending_and_disputed_rows(tmp_path: Path) -> None:
    """The price check fails on rows that are old, doubled, ending or disputed, before they mislead a verdict."""
    prices = tmp_path / "prices"
    prices.mkdir()
    (prices / "instances.yaml").write_text(
        (PRICES / "instances.yaml").read_text().replace("checked_on: 2026-10-05", "checked_on: 2026-01-05")
    )
    text = (PRICES / "api.yaml").read_text()
    first = text[text.index("  - model: gpt-4o-mini") : text.index("  - model: gpt-5-mini")]
    (prices / "api.yaml").write_text(text + first)
    found = findings(load_tables(prices), list(from_litellm(LITELLM, ON)), ON, 120)
    kinds = {f.kind for f in found}
    assert {"old", "twice", "ends soon", "disagreement"} <= kinds
    assert "ended" in {f.kind for f in findings(load_tables(prices), [], dt.date(2026, 12, 12), 400)}
    with pytest.raises(RunFailedError, match="prices to check"):
        run("check", "--prices", str(prices))
    assert run("check", "--max-age-days", "36500").exit_code == 0
