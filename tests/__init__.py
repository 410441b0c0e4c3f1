"""The tests mirror the packages, file by file; `whole/` holds those of a stage as a whole."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
