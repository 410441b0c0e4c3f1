"""The first question: whatever comes back is an answer or one message, and none of it goes through a proxy."""

import contextlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tokenhour.contracts.errors import RunFailedError
from tokenhour.machine.prometheus import read_metrics
from tokenhour.serving.engine import readiness
from tokenhour.serving.engine.readiness import ask, wait_ready
from tokenhour.serving.launch.argv import Launch
from tokenhour.serving.proxy.idle_policy import SleepMode

pytestmark = pytest.mark.system

# Status and body of an answer; without a body the connection breaks off.
Reply = tuple[int, bytes | None]
KEY = "0123456789abcdef-very-secret"
CHAT = json.dumps({"choices": [{"message": {"content": " Paris. "}}]}).encode()
TEXT = json.dumps({"choices": [{"text": " Paris. "}]}).encode()


@contextlib.contextmanager
def answering(
    chat: Reply, completions: Reply = (500, b""), get: Reply = (200, b"vllm:num_requests_running 2\n")
) -> Iterator[tuple[Launch, list[tuple[str, str | None]]]]:
    """An engine that answers (status, body) as told; a body None breaks the connection off. Yields its launch and log."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def reply(self, status: int, body: bytes | None) -> None:
            """Note the request and answer it, or break off."""
            seen.append((self.path, self.headers.get("Authorization")))
            if body is None:
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            """Answer health and metrics."""
            self.reply(*get)

        def do_POST(self) -> None:
            """Answer completions as told, and anything else with an empty object."""
            self.rfile.read(int(self.headers["Content-Length"]))
            told = {"/v1/chat/completions": chat, "/v1/completions": completions}
            self.reply(*told.get(self.path, (200, b"{}")))

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Launch((), {}, f"http://127.0.0.1:{server.server_port}", "toy", {"VLLM_API_KEY": KEY}), seen
        server.shutdown()


@pytest.mark.parametrize(
    ("chat", "completions", "said"),
    [
        ((500, b"no kernel"), (200, TEXT), "500: Internal Server Error no kernel"),
        ((400, b"no template"), (500, b"no kernel"), "500: Internal Server Error no kernel"),
        ((400, b"no template"), (200, None), "first completion failed"),
        ((200, b"<html>"), (200, TEXT), "none of an OpenAI server"),
        ((200, b"{}"), (200, TEXT), "none of an OpenAI server"),
        ((200, b'{"choices": []}'), (200, TEXT), "none of an OpenAI server"),
        ((200, b"[1]"), (200, TEXT), "none of an OpenAI server"),
        ((404, b""), (200, b"null"), "none of an OpenAI server"),
        ((200, None), (200, TEXT), "first completion failed"),
    ],
)
def test_whatever_is_no_answer_is_one_message(chat: Reply, completions: Reply, said: str) -> None:
    """Errors, broken connections and replies of other software all become one message with the server's address."""
    with answering(chat, completions) as (launch, _), pytest.raises(RunFailedError, match=said) as caught:
        ask(launch, 5)
    assert caught.value.where == launch.base_url


@pytest.mark.parametrize("chat", [(200, CHAT), (404, b"")])
def test_the_answer_comes_through_the_chat_template_where_there_is_one(chat: Reply) -> None:
    """The greeting goes through chat first and falls back to plain completions."""
    with answering(chat, (200, TEXT)) as (launch, _):
        assert ask(launch, 5) == "Paris."


def test_nothing_of_ours_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default urllib would hand 127.0.0.1 to http_proxy, and the key with it."""
    with answering((502, b""), get=(502, b"")) as (proxy, stolen), answering((200, CHAT)) as (launch, seen):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.base_url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(urllib.request, "_opener", None)
        assert ask(launch, 5) == "Paris."
        assert read_metrics(launch.base_url) == {"vllm:num_requests_running": 2}
        assert readiness._get(f"{launch.base_url}/health")
        engine = SleepMode(lambda: [launch.base_url], 1, lambda: None)
        engine.rest()
        assert engine.wake()
    assert stolen == []
    assert seen[0] == ("/v1/chat/completions", f"Bearer {KEY}")
    assert [path for path, _ in seen[1:]] == ["/metrics", "/health", "/sleep?level=1", "/wake_up"]


def test_a_start_that_nobody_wants_any_more_does_not_wait_for_its_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serving down` while an engine is busy with its first completion."""
    release = threading.Event()
    with answering((200, CHAT)) as (launch, _):
        running = SimpleNamespace(
            launch=launch, log=tmp_path / "log", launched=time.monotonic(), name="vLLM", log_text=str, check=lambda: None
        )
        monkeypatch.setattr(readiness, "ask", lambda *_: release.wait(60))
        began = time.monotonic()
        with pytest.raises(RunFailedError, match="cancelled"):
            wait_ready(running, 60, cancelled=lambda: time.monotonic() - began > 0.3)
    release.set()
    assert time.monotonic() - began < 10
