"""What the tests of the plots share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the figures that a test leaves open."""
    yield
    from matplotlib import pyplot as plt

    plt.close("all")
