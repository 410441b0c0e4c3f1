"""`tokenhour --version`, installed or not."""

from importlib import metadata

import pytest
from click.testing import CliRunner

from tokenhour.cli import cli


def test_the_version_is_that_of_the_distribution() -> None:
    """Users report the version that pip installed."""
    found = CliRunner().invoke(cli, ["--version"])
    assert (found.exit_code, found.output) == (0, f"tokenhour, version {metadata.version('tokenhour')}\n")


def test_a_clone_that_is_not_installed_says_so_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Running from a clone still answers --version."""

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    found = CliRunner().invoke(cli, ["--version"])
    assert (found.exit_code, found.output) == (0, "tokenhour, not installed: run from its folder\n")
