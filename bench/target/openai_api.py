"""The HTTP requests that the generator sends. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from tokenhour.contracts.errors import InputError

Api = Literal["completions", "chat"]
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A base URL taken apart."""

    host: str
    port: int
    tls: bool
    path: str
    """Before /v1, mostly empty."""

    @property
    def authority(self) -> str:
        """Host and port as the Host header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_url(url: str) -> BaseUrl:
    """Read a base URL, with or without /v1 at its end. Raises InputError."""
    try:
        found = urlsplit(url)
        port, host = found.port, found.hostname
    except ValueError:  # such as a port that is no number, or a bracket that is not closed
        found, port, host = urlsplit(""), None, None
    sendable = url.isascii() and url.isprintable() and " " not in url
    if found.scheme not in _PORTS or not host or port == 0 or not sendable:
        raise InputError(f"{url!r} is no http or https URL", where="--url", remedy="such as http://127.0.0.1:8000")
    path = found.path.rstrip("/").removesuffix("/v1")
    return BaseUrl(host, port or _PORTS[found.scheme], found.scheme == "https", path)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the server understands beyond the OpenAI API."""

    api: Api = "completions"
    token_ids: bool = True
    """Prompts as token ids (completions only)."""
    continuous_usage: bool = True
    """`stream_options.continuous_usage_stats`: tokens of each chunk."""
    exact_output: bool = True
    """`ignore_eos` and `min_tokens`."""
    limit_name: str = "max_tokens"


def body(dialect: Dialect, model_id: str, prompt: list[int] | str, output_tokens: int) -> dict[str, Any]:
    """Write a request: greedy, streamed, with usage; exact lengths where the server can."""
    asked: dict[str, Any] = {"model": model_id}
    if dialect.api == "chat":
        asked["messages"] = [{"role": "user", "content": prompt}]
    else:
        asked["prompt"] = prompt
    asked[dialect.limit_name] = output_tokens
    if dialect.exact_output:
        asked |= {"min_tokens": output_tokens, "ignore_eos": True}
    options = {"include_usage": True} | ({"continuous_usage_stats": True} if dialect.continuous_usage else {})
    return asked | {"temperature": 0, "stream": True, "stream_options": options}


def request(where: BaseUrl, dialect: Dialect, asked: Mapping[str, Any], request_id: str, key: str | None) -> bytes:
    """Write the whole HTTP request."""
    content = json.dumps(asked).encode()
    path = f"{where.path}/v1/{'chat/completions' if dialect.api == 'chat' else 'completions'}"
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {where.authority}",
        "Content-Type: application/json",
        "Accept: text/event-stream",
        f"X-Request-Id: {request_id}",
        *([f"Authorization: Bearer {key}"] if key else []),
        f"Content-Length: {len(content)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content
