"""HTTP to the server that is served or measured, never through a proxy: the load itself goes straight there.

urllib's own urlopen hands 127.0.0.1 to the machine's http_proxy too, and the API key with it.
"""

from __future__ import annotations

import http.client
import urllib.request
from http.client import HTTPResponse
from typing import cast

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# What an engine that is not there, dies in mid-answer or is none makes of a request.
NO_ANSWER = (OSError, http.client.HTTPException)


def urlopen(request: str | urllib.request.Request, timeout_s: float) -> HTTPResponse:
    """Open a URL as urllib does, past every proxy. Raises one of NO_ANSWER; HTTPError for a status of refusal."""
    return cast("HTTPResponse", _OPENER.open(request, timeout=timeout_s))
