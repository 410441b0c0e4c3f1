"""A running engine's logprobs of a prompt's tokens, window by window, over HTTP."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenhour.contracts.errors import InputError, RunFailedError
from tokenhour.contracts.records.server import Server
from tokenhour.machine.http import urlopen
from tokenhour.quantize.evaluation.statistics import TOP

_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Said:
    """An engine's words on one window: nats a token, and for each position its likeliest tokens, the first one first."""

    nll: float
    ids: list[NDArray[np.int64]]
    logprobs: list[NDArray[np.float64]]


def ask(server: Server, ids: NDArray[np.int64], advance: Callable[[int], None] = lambda _: None) -> Iterator[Said]:
    """Ask for the logprobs of each window in turn.

    Raises InputError where no server is there from the beginning, and RunFailedError where one ends in between, refuses, or
    answers without logprobs.
    """
    url = f"{server.base_url}/v1/completions"
    asked = {"model": server.model_id, "max_tokens": 1, "temperature": 0, "prompt_logprobs": TOP}
    for number, window in enumerate(ids, 1):
        reply = _post(url, {**asked, "prompt": window.tolist()}, server.api_key_env, begun=number > 1)
        try:
            found = _read(reply["choices"][0]["prompt_logprobs"][1:], window[1:])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise RunFailedError(
                f"the engine's answer holds no logprobs of the prompt's tokens: {error!r}",
                where=url,
                remedy="ask vLLM itself, without a gateway between",
            ) from error
        advance(number)
        yield found


def _read(positions: list[dict[str, dict[str, float]]], targets: NDArray[np.int64]) -> Said:
    nll = -np.mean([said[str(token)]["logprob"] for said, token in zip(positions, targets, strict=True)])
    # The token that stands there comes on top of the likeliest ones.
    listed = [sorted((p["rank"], int(t), p["logprob"]) for t, p in said.items() if p["rank"] <= TOP) for said in positions]
    if not all(row and row[0][0] == 1 for row in listed):
        raise ValueError("no token of rank 1")
    return Said(
        float(nll),
        [np.array([token for _, token, _ in row]) for row in listed],
        [np.array([logprob for *_, logprob in row]) for row in listed],
    )


def _post(url: str, body: dict[str, Any], key_env: str | None, *, begun: bool) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), _heads(key_env))
    try:
        with urlopen(request, _TIMEOUT_S) as reply:
            found: dict[str, Any] = json.load(reply)
            return found
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        if error.code in (401, 403):
            raise InputError(
                f"the server answers {error.code} {error.reason}",
                where=url,
                remedy=f"put the right key into {key_env or 'the variable that operations.api_key_env names'}",
            ) from error
        raise RunFailedError(f"the engine answers {error.code}: {said}", where=url, remedy="read server.log") from error
    except (OSError, HTTPException, ValueError) as error:
        # urllib's own kind: no connection was made. All others: it ended with half an answer, or none.
        if isinstance(error, urllib.error.URLError) and not begun:
            raise InputError(
                f"no server answers: {error}",
                where=url,
                remedy="tokenhour serving run EXP -- tokenhour quantize through-engine EXP",
            ) from error
        raise RunFailedError(
            f"the engine gave no whole answer: {error!r}", where=url, remedy="read server.log, then serve it again"
        ) from error


def _heads(key_env: str | None) -> dict[str, str]:
    """Return a request's headers; the key stands in the environment only, under the name that the server's record gives."""
    key = os.environ.get(key_env) if key_env else None
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
