"""Files that come with the house: price tables and example scenarios. Those of the working directory go first."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Above the packages: the checkout, or where they were installed to."""
PRICES = Path("configs/prices")


def prices_folder() -> Path:
    """Return configs/prices of the working directory where there is one, else the tables that came with the house."""
    return PRICES if PRICES.is_dir() else ROOT / PRICES


def example(path: Path) -> Path:
    """Return `path`; where nothing is and it is one of configs/, the file of that name that came with the house."""
    ours = ROOT / path
    return ours if path.parts[:1] == ("configs",) and not path.exists() and ours.is_file() else path


def described(folder: Path) -> str:
    """Say which tables were used, for people."""
    return f"the tables that came with tokenhour, {folder}" if folder == ROOT / PRICES else str(folder)
