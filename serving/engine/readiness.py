"""When a started engine is ready: it is healthy, and has answered a real question."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Protocol

from tokenhour.contracts.errors import RunFailedError
from tokenhour.contracts.records.server import ColdStart
from tokenhour.machine.http import NO_ANSWER, post_json, urlopen
from tokenhour.serving.engine.crash_diagnosis import tail
from tokenhour.serving.engine.process import Engine
from tokenhour.serving.launch.argv import Launch

_POLL_S = 0.05
_LAST_WORDS_S = 1.0
_NO_CHAT = frozenset({400, 404, 422})
_QUESTION = "What is the capital of France? Answer in one sentence."
# What each phase's end looks like in the engine's log.
_MARKS = {
    "process": ("Initializing a V1 LLM engine", "non-default args", "Starting vLLM"),
    "loading": ("Starting to load model",),
    "weights": ("Loading weights took", "Model loading took"),
    "compile": ("init engine (profile",),
}
_SAID = {
    "process": "starting the engine",
    "loading": "loading weights",
    "weights": "weights loaded",
    "compile": "engine ready, starting the API",
}


class Says(Protocol):
    """Whoever is told what a start is doing."""

    def update(self, text: str) -> None:
        """Take the latest phase."""


def wait_ready(
    running: Engine, timeout_s: float, status: Says | None = None, cancelled: Callable[[], bool] = lambda: False
) -> tuple[ColdStart, str]:
    """Wait for /health and one real completion; return the phases in seconds since launch and the answer.

    Raises RunFailedError when the engine ends, the time is over, or `cancelled` says so.
    """
    seen: dict[str, float] = {}

    def look() -> None:
        words, now = running.log_text(), time.monotonic() - running.launched
        for phase, marks in _MARKS.items():
            if phase not in seen and any(mark in words for mark in marks):
                seen[phase] = now
        if status is not None:
            status.update(_SAID[list(seen)[-1]] if seen else "starting Python")

    deadline = running.launched + timeout_s
    _until(lambda: _get(f"{running.launch.base_url}/health"), running, deadline, look, cancelled)
    look()
    health_s = time.monotonic() - running.launched
    if status is not None:
        status.update("first completion")
    answer = _greet(running, max(1.0, deadline - time.monotonic()), cancelled)
    ready_s = time.monotonic() - running.launched
    return ColdStart(
        process_s=seen.get("process"),
        weights_s=seen.get("weights"),
        compile_s=seen.get("compile"),
        health_s=health_s,
        ready_s=ready_s,
    ), answer


def _until(
    condition: Callable[[], bool],
    running: Engine,
    deadline: float,
    look: Callable[[], None],
    cancelled: Callable[[], bool],
) -> None:
    while not condition():
        _refuse_over(running, deadline, cancelled)
        look()
        # Often at first, for what starts at once; then with a twentieth of a second at most lost.
        time.sleep(min(_POLL_S, max(0.02, 0.02 * (time.monotonic() - running.launched))))


def _refuse_over(running: Engine, deadline: float, cancelled: Callable[[], bool]) -> None:
    """Raise RunFailedError when the engine has ended, nobody wants it any more, or its time is over."""
    running.check()
    if cancelled():
        raise RunFailedError("the start was cancelled", where=str(running.log))
    if time.monotonic() > deadline:
        raise RunFailedError(
            f"{running.name} was not ready in time\n{tail(running.log_text())}",
            where=str(running.log),
            remedy="raise serving.ready_timeout_s, or set serving.enforce_eager to skip compilation",
        )


def _get(url: str) -> bool:
    try:
        with urlopen(url, 2) as reply:
            return reply.status == 200
    except NO_ANSWER:
        return False


def _greet(running: Engine, timeout_s: float, cancelled: Callable[[], bool]) -> str:
    """Ask the first question in a thread of its own: an engine that dies or is not wanted any more is not waited for."""
    answer: Future[str] = Future()

    def greet() -> None:
        try:
            answer.set_result(ask(running.launch, timeout_s))
        except Exception as error:  # noqa: BLE001 (handed to the one that waits)
            answer.set_exception(error)

    deadline = time.monotonic() + timeout_s
    threading.Thread(target=greet, name="greeting", daemon=True).start()
    while not wait([answer], _POLL_S).done:
        _refuse_over(running, deadline, cancelled)
    if answer.exception() is not None:
        _last_words(running)
    return answer.result()


def _last_words(running: Engine) -> None:
    """Give an engine that broke off a moment to end: why it did stands in its log, not in the broken connection."""
    until = time.monotonic() + _LAST_WORDS_S
    while time.monotonic() < until:
        running.check()
        time.sleep(_POLL_S)


def ask(launch: Launch, timeout_s: float) -> str:
    """Ask one question, greedily, through the chat template where the model has one; return the answer.

    Raises RunFailedError, whatever else comes back.
    """
    try:
        return _answer(launch, timeout_s)
    except urllib.error.HTTPError as error:
        raise _no_answer(launch, f"{error} {_said(error)}") from error
    except NO_ANSWER as error:
        raise _no_answer(launch, str(error) or type(error).__name__) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _no_answer(launch, f"the answer is none of an OpenAI server ({type(error).__name__}: {error})") from error


def _answer(launch: Launch, timeout_s: float) -> str:
    common = {"model": launch.model_id, "max_tokens": 24, "temperature": 0}
    key = launch.secrets.get("VLLM_API_KEY")
    messages = [{"role": "user", "content": _QUESTION}]
    try:
        reply = post_json(f"{launch.base_url}/v1/chat/completions", {**common, "messages": messages}, timeout_s, key)
    except urllib.error.HTTPError as error:
        if error.code not in _NO_CHAT:
            raise
        error.close()
        reply = post_json(f"{launch.base_url}/v1/completions", {**common, "prompt": _QUESTION}, timeout_s, key)
        return str(json.loads(reply)["choices"][0]["text"]).strip()
    return str(json.loads(reply)["choices"][0]["message"]["content"]).strip()


def _no_answer(launch: Launch, why: str) -> RunFailedError:
    return RunFailedError(f"the first completion failed: {why}", where=launch.base_url, remedy="read server.log")


def _said(error: urllib.error.HTTPError) -> str:
    with contextlib.suppress(*NO_ANSWER), error:
        return error.read(300).decode(errors="replace")
    return ""
