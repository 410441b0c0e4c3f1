"""Price tables and example scenarios: those of the working directory first, else what came with the house."""

from pathlib import Path

import pytest

from tokenhour.contracts.io.package_data import PRICES, ROOT, described, example, prices_folder


def test_the_working_directory_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own price tables win over those of the package, and messages say which were used."""
    monkeypatch.chdir(tmp_path)
    assert prices_folder() == ROOT / PRICES
    assert "came with tokenhour" in described(prices_folder())
    (tmp_path / PRICES).mkdir(parents=True)
    assert prices_folder() == PRICES
    assert described(prices_folder()) == "configs/prices"


def test_an_example_is_found_away_from_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed copy finds the shipped scenarios by the names that the docs use."""
    monkeypatch.chdir(tmp_path)
    named = Path("configs/scenarios/team.yaml")
    assert example(named) == ROOT / named
    assert example(Path("mine.yaml")) == Path("mine.yaml")
    assert example(Path("configs/scenarios/none.yaml")) == Path("configs/scenarios/none.yaml")
    named.parent.mkdir(parents=True)
    named.write_text("")
    assert example(named) == named
