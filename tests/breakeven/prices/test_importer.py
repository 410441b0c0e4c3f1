"""What is imported is a table of ours; what cannot be imported says why."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.breakeven.prices.seen import LITELLM, ON
from tokenhour.breakeven.prices.importer import as_yaml, imported
from tokenhour.contracts.config.prices import ApiPrice, ApiPriceTable
from tokenhour.contracts.errors import InputError


def test_what_is_imported_is_a_table_that_can_be_read_again(litellm: list[ApiPrice]) -> None:
    """Imported YAML is a valid price table whose rows can be copied one by one."""
    text = as_yaml(litellm)
    assert ApiPriceTable.model_validate(yaml.safe_load(text)).prices == tuple(litellm)
    assert not re.search(r": [&*]", text), "each row can be copied alone"


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
