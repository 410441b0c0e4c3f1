"""What the engine tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of checkpoints for all: what one file has made of the same weights with the same settings, others reuse."""
    return tmp_path_factory.mktemp("shared") / "checkpoints"
