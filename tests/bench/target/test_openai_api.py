"""URLs taken apart, and requests as the server takes them."""

import pytest

from tokenhour.bench.target.openai_api import parse_url
from tokenhour.contracts.errors import InputError


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/a b",
        "http://exa mple",
        "http://[::1",
        "http://h:0",
        "http://h:99999",
        "http://h/\n",
        "http://h/\u00e9",
    ],
)
def test_what_cannot_be_asked_is_no_url(url: str) -> None:
    """A malformed URL is rejected before any socket is opened."""
    with pytest.raises(InputError, match="no http or https URL"):
        parse_url(url)


def test_an_ipv6_address_is_a_host() -> None:
    """Brackets are for the Host header alone, and /v1 is not doubled."""
    found = parse_url("http://[::1]:8000/v1")
    assert (found.host, found.port, found.authority, found.path) == ("::1", 8000, "[::1]:8000", "")
