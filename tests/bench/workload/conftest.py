"""A log on disk."""

from pathlib import Path


def write(folder: Path, text: str, name: str = "log.csv") -> Path:
    """Write a log file and return its path."""
    (folder / name).write_text(text)
    return folder / name
