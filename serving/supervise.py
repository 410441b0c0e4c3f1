"""Start an engine, wait until it has really answered, and always take the whole of it down again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contracts.errors import RunFailedError
from contracts.progress import Status
from contracts.server import ColdStart
from contracts.store import disk_errors
from serving.command import Launch
from serving.diagnose import cause_of, tail
from serving.guard import GRACE_S, MARK, children_of, kill_marked

_POLL_S = 0.1
_QUESTION = "What is the capital of France? Answer in one sentence."
_MILESTONES = (
    ("init engine (profile", "engine ready, starting the API"),
    ("Loading weights took", "weights loaded"),
    ("Starting to load model", "loading weights"),
    ("Initializing a V1 LLM engine", "starting the engine"),
)


@dataclass(slots=True)
class Engine:
    """A running engine: its guardian, its log, and when it was launched (time.monotonic)."""

    guard: subprocess.Popen[bytes]
    launch: Launch
    log: Path
    launched: float = field(default_factory=time.monotonic)

    def log_text(self) -> str:
        """Return what the engine has printed."""
        return self.log.read_text(errors="replace")

    def pid(self) -> int:
        """Return the root of the engine's process tree."""
        children = children_of(self.guard.pid)
        return children[0] if children else self.guard.pid

    def check(self) -> None:
        """Raise RunFailedError with the likely cause and the last log lines when the engine has ended."""
        code = self.guard.poll()
        if code is None:
            return
        words = self.log_text()
        cause = cause_of(words, code)
        raise RunFailedError(
            f"vLLM ended with exit code {code}: {cause.what}\n{tail(words)}", where=str(self.log), remedy=cause.remedy
        )


@contextlib.contextmanager
def engine(launch: Launch, log: Path) -> Iterator[Engine]:
    """Run `launch` under a guardian; when the block ends, however it ends, the whole tree is gone."""
    mark = uuid.uuid4().hex
    with disk_errors(log), log.open("wb") as sink:
        reader, writer = os.pipe()
        try:
            guard = subprocess.Popen(
                [sys.executable, "-m", "serving.guard", *launch.argv],
                stdin=reader,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.environment, MARK: mark},
                start_new_session=True,
            )
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
    try:
        yield Engine(guard, launch, log)
    finally:
        os.close(writer)
        _collect(guard, mark)


def _collect(guard: subprocess.Popen[bytes], mark: str) -> None:
    try:
        guard.wait(GRACE_S + 5)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
    # The guardian itself may have been killed: then nobody else knows what the engine had started.
    kill_marked(mark)


def wait_ready(running: Engine, timeout_s: float, status: Status) -> tuple[ColdStart, str]:
    """Wait for /health and one real completion; return the phases in seconds since launch and the answer.

    Raises RunFailedError when the engine ends or the time is over.
    """
    weights_s: float | None = None

    def look() -> None:
        nonlocal weights_s
        words = running.log_text()
        status.update(next((said for mark, said in _MILESTONES if mark in words), "starting Python"))
        if weights_s is None and "Loading weights took" in words:
            weights_s = time.monotonic() - running.launched

    deadline = running.launched + timeout_s
    _until(lambda: _get(f"{running.launch.base_url}/health"), running, deadline, look)
    health_s = time.monotonic() - running.launched
    status.update("first completion")
    answer = ask(running.launch.base_url, running.launch.model_id, max(1.0, deadline - time.monotonic()))
    ready_s = time.monotonic() - running.launched
    return ColdStart(weights_s=weights_s, health_s=health_s, ready_s=ready_s), answer


def _until(condition: Callable[[], bool], running: Engine, deadline: float, look: Callable[[], None]) -> None:
    while not condition():
        running.check()
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"vLLM was not ready in time\n{tail(running.log_text())}",
                where=str(running.log),
                remedy="raise serving.ready_timeout_s, or set serving.enforce_eager to skip compilation",
            )
        look()
        time.sleep(_POLL_S)


def _get(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def ask(base_url: str, model_id: str, timeout_s: float) -> str:
    """Ask one question, greedily, through the chat template where the model has one; return the answer."""
    common = {"model": model_id, "max_tokens": 24, "temperature": 0}
    try:
        messages = [{"role": "user", "content": _QUESTION}]
        reply = _post(f"{base_url}/v1/chat/completions", {**common, "messages": messages}, timeout_s)
        return str(reply["choices"][0]["message"]["content"]).strip()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        if error.code not in {400, 404, 422}:
            raise RunFailedError(
                f"the first completion failed: {error} {said}", where=base_url, remedy="read server.log"
            ) from error
        reply = _post(f"{base_url}/v1/completions", {**common, "prompt": _QUESTION}, timeout_s)
        return str(reply["choices"][0]["text"]).strip()
    except OSError as error:
        raise RunFailedError(f"the first completion failed: {error}", where=base_url, remedy="read server.log") from error


def _post(url: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        found: dict[str, Any] = json.load(reply)
        return found
