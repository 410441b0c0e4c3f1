"""HTTP to the server that is served or measured, never through a proxy: the load itself goes straight there.

urllib's own urlopen hands 127.0.0.1 to the machine's http_proxy too, and the API key with it.
"""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import Any, cast

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# What an engine that is not there, dies in mid-answer or is none makes of a request.
NO_ANSWER = (OSError, http.client.HTTPException)


def urlopen(request: str | urllib.request.Request, timeout_s: float) -> HTTPResponse:
    """Open a URL as urllib does, past every proxy. Raises one of NO_ANSWER; HTTPError for a status of refusal."""
    return cast("HTTPResponse", _OPENER.open(request, timeout=timeout_s))


def post_json(url: str, body: Mapping[str, Any], timeout_s: float, key: str | None = None) -> bytes:
    """POST `body` as JSON, with the API key where there is one; return the whole answer. Raises as `urlopen` does."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    with urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout_s) as reply:
        return reply.read()
