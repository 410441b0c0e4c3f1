"""Start an engine, wait until it has really answered, and always take the whole of it down again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from contracts.errors import RunFailedError
from contracts.operations_spec import LogSpec
from contracts.server import ColdStart
from contracts.store import disk_errors
from contracts.units import BYTES_PER_MIB
from serving.command import Launch
from serving.diagnose import cause_of, tail
from serving.guard import AT_ONCE, GRACE_S, MARK, ORDERS, children_of, kill_marked
from serving.logs import identity_of, numbered, read_all, set_aside

_POLL_S = 0.05
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


@dataclass(slots=True)
class Engine:
    """A running engine (or router): its guardian, its log, and when it was launched (time.monotonic)."""

    guard: subprocess.Popen[bytes]
    launch: Launch
    log: Path
    launched: float = field(default_factory=time.monotonic)
    name: str = "vLLM"
    earlier: tuple[int, int] | None = None
    """The log that an engine before this one left."""

    def log_text(self) -> str:
        """Return what the engine has printed lately."""
        return read_all(self.log, without=self.earlier)

    def pid(self) -> int:
        """Return the root of the engine's process tree."""
        children = children_of(self.guard.pid)
        return children[0] if children else self.guard.pid

    def ended(self) -> bool:
        """Tell whether it has ended."""
        return self.guard.poll() is not None

    def check(self) -> None:
        """Raise RunFailedError with the likely cause and the last log lines when the engine has ended."""
        code = self.guard.poll()
        if code is None:
            return
        words = self.log_text()
        cause = cause_of(words, code)
        raise RunFailedError(
            f"{self.name} ended with exit code {code}: {cause.what}\n{tail(words)}", where=str(self.log), remedy=cause.remedy
        )

    def drain(self) -> None:
        """Tell it to let running requests end and then to stop; returns at once."""
        with contextlib.suppress(ProcessLookupError):
            self.guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Have the whole tree killed, whatever still runs; returns at once."""
        with contextlib.suppress(ProcessLookupError):
            self.guard.send_signal(AT_ONCE)


@contextlib.contextmanager
def engine(
    launch: Launch, log: Path, *, kept: LogSpec | None = None, drain_s: float = 0.0, name: str = "vLLM"
) -> Iterator[Engine]:
    """Run `launch` under a guardian; when the block ends, however it ends, the whole tree is gone."""
    mark = uuid.uuid4().hex
    spec = kept or LogSpec()
    orders = {
        "log": str(log),
        "log_bytes": int(spec.max_mib * BYTES_PER_MIB),
        "log_keep": spec.keep,
        "drain_s": drain_s,
        "grace_s": GRACE_S,
        "secrets": list(launch.secrets),
    }
    with disk_errors(log):
        # What the engine before this one said last is why it crashed: a restart must not erase it.
        set_aside(log, spec.keep)
        log.write_bytes(b"")
        earlier = identity_of(numbered(log, 1))
        reader, writer = os.pipe()
        try:
            guard = subprocess.Popen(
                [sys.executable, "-m", "serving.guard", *launch.argv],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **launch.environment, **launch.secrets, MARK: mark, ORDERS: json.dumps(orders)},
                start_new_session=True,
            )
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
    try:
        yield Engine(guard, launch, log, name=name, earlier=earlier)
    finally:
        os.close(writer)
        _collect(guard, mark, drain_s)


def _collect(guard: subprocess.Popen[bytes], mark: str, drain_s: float) -> None:
    try:
        guard.wait(GRACE_S + drain_s + 5)
    except BaseException as error:
        # It is late, or a signal says that whoever waits has waited enough.
        guard.kill()
        guard.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
    finally:
        # The guardian itself may have been killed: then nobody else knows what the engine had started.
        kill_marked(mark)


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
    answer = ask(running.launch, max(1.0, deadline - time.monotonic()))
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
        running.check()
        if cancelled():
            raise RunFailedError("the start was cancelled", where=str(running.log))
        if time.monotonic() > deadline:
            raise RunFailedError(
                f"vLLM was not ready in time\n{tail(running.log_text())}",
                where=str(running.log),
                remedy="raise serving.ready_timeout_s, or set serving.enforce_eager to skip compilation",
            )
        look()
        # Often at first, for what starts at once; then with a twentieth of a second at most lost.
        time.sleep(min(_POLL_S, max(0.02, 0.02 * (time.monotonic() - running.launched))))


def _get(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def ask(launch: Launch, timeout_s: float) -> str:
    """Ask one question, greedily, through the chat template where the model has one; return the answer."""
    common = {"model": launch.model_id, "max_tokens": 24, "temperature": 0}
    key = launch.secrets.get("VLLM_API_KEY")
    try:
        messages = [{"role": "user", "content": _QUESTION}]
        reply = _post(f"{launch.base_url}/v1/chat/completions", {**common, "messages": messages}, timeout_s, key)
        return str(reply["choices"][0]["message"]["content"]).strip()
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
        if error.code not in {400, 404, 422}:
            raise RunFailedError(
                f"the first completion failed: {error} {said}", where=launch.base_url, remedy="read server.log"
            ) from error
        reply = _post(f"{launch.base_url}/v1/completions", {**common, "prompt": _QUESTION}, timeout_s, key)
        return str(reply["choices"][0]["text"]).strip()
    except OSError as error:
        raise RunFailedError(
            f"the first completion failed: {error}", where=launch.base_url, remedy="read server.log"
        ) from error


def _post(url: str, body: dict[str, Any], timeout_s: float, key: str | None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        found: dict[str, Any] = json.load(reply)
        return found
