"""The front: the only thing that is reachable from outside.

It lets an allow-list of paths through, checks the key, holds requests while the engine rests, and passes streams on as
they come.

It runs in a thread of the supervisor with an event loop of its own; everything that decides stands in that loop, so that
"nobody is there" and "the gate is closed" are one step. aiohttp does the clients' HTTP, `upstream` the
engine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tokenhour.contracts.errors import InputError
from tokenhour.machine.processes import raise_file_limit
from tokenhour.serving.proxy.upstream import EngineGoneError, Upstream

if TYPE_CHECKING:
    from aiohttp import web

# What clients of an OpenAI-compatible server need, and nothing that changes it: no sleep, wake, profile, LoRA, cache reset.
ALLOWED = frozenset(
    {
        ("GET", "/health"),
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/embeddings"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
    }
)
_NO_WAKE = frozenset({"/health", "/v1/models", "/metrics"})
_MAX_BODY_BYTES = 64 << 20
_START_S = 10.0
# aiohttp would log a traceback for each malformed request: anybody who can connect could fill the disk.
_SILENT = logging.getLogger("serving.front.requests")
_SILENT.setLevel(logging.CRITICAL + 1)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FrontSpec:
    """What the front is told."""

    host: str
    port: int
    upstream: str
    model_id: str
    key: str | None = field(default=None, repr=False)
    tls_certificate: str | None = None
    tls_key: str | None = None
    show_metrics: bool = False
    """Let GET /metrics through: only for a front that listens on loopback."""
    max_waiting: int = 10_000
    wake_timeout_s: float = 600.0
    keepalive_s: float = 75.0


class Front:
    """A running front. Methods are called from other threads; what they do happens in the front's loop."""

    def __init__(self, spec: FrontSpec) -> None:
        self.spec = spec
        self.wanted = threading.Event()
        """Set while a request waits before a closed gate."""
        self.last_active = time.monotonic()
        self._digest = hashlib.sha256(spec.key.encode()).digest() if spec.key else None
        self._in_flight = 0
        self._waiting = 0
        self._first_waiting: float | None = None
        self._refusing = False
        self._resting = False
        self._loop = asyncio.new_event_loop()
        self._gate: asyncio.Event
        self._upstream = Upstream(spec.upstream)

    # --- called by the supervisor -----------------------------------------------------------------------------------

    def close_when_idle(self, after_s: float) -> bool:
        """Close the gate if nobody is being served, nobody waits and nobody came for `after_s`; tell whether it closed."""

        def decide() -> bool:
            quiet = time.monotonic() - self.last_active >= after_s
            if self._in_flight or self._waiting or not quiet or self._refusing:
                return False
            self._gate.clear()
            self._resting = True
            return True

        return self._in_loop(decide)

    def open(self) -> tuple[int, float]:
        """Open the gate; return (requests that were held, seconds that the first of them had waited)."""

        def decide() -> tuple[int, float]:
            held = self._waiting
            waited = time.monotonic() - self._first_waiting if self._first_waiting is not None else 0.0
            self._first_waiting = None
            self._resting = False
            self.last_active = time.monotonic()
            self.wanted.clear()
            self._gate.set()
            return held, waited

        return self._in_loop(decide)

    def refuse(self) -> None:
        """Take no new requests (503), and let those that are held go with the same answer."""

        def decide() -> None:
            self._refusing = True
            self._gate.set()

        self._in_loop(decide)

    def in_flight(self) -> int:
        """Count the requests that are being served or held."""
        return self._in_loop(lambda: self._in_flight + self._waiting)

    def _in_loop(self, step: Callable[[], Result]) -> Result:
        answer: Future[Result] = Future()

        def run() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(step())
            except Exception as error:  # noqa: BLE001 (handed to the caller)
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        try:
            return answer.result(_START_S)
        except TimeoutError:
            # A step that its caller believes failed must not be taken later: a gate closed by nobody would stay closed.
            if answer.cancel():
                raise
            return answer.result()

    # --- inside the loop --------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        from aiohttp import web

        answer = self._answer_itself(request.method, request.path, request.headers.get("Authorization", ""))
        if answer is not None:
            status, body = answer
            return web.Response(status=status, text=json.dumps(body), content_type="application/json")
        if request.path == "/metrics":
            return await self._pass_on(request, b"")
        return await self._serve(request)

    def _answer_itself(self, method: str, path: str, authorization: str) -> tuple[int, dict[str, Any]] | None:
        """Return what the front answers without the engine; None for what the engine must answer."""
        shown = (method, path) == ("GET", "/metrics") and self.spec.show_metrics
        if (method, path) not in ALLOWED and not shown:
            return 404, _error(404, "no such path here")
        if path == "/health":
            return (503, _error(503, "the server is being stopped")) if self._refusing else (200, {})
        if not shown and not self._knows(authorization):
            return 401, _error(401, "a valid API key is needed: Authorization: Bearer KEY")
        if self._resting and path in _NO_WAKE:
            return (503, _error(503, "the engine rests")) if shown else (200, self._models())
        return None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        refused = await self._enter()
        if refused is not None:
            return refused
        try:
            return await self._pass_on(request, body)
        finally:
            self._in_flight -= 1
            self.last_active = time.monotonic()

    async def _enter(self) -> web.Response | None:
        """Wait for the gate and count in; a refusal otherwise."""
        if not self._gate.is_set():
            if self._waiting >= self.spec.max_waiting:
                return _say(503, "too many requests wait for the engine to wake", retry_after_s=5)
            self._waiting += 1
            if self._first_waiting is None:
                self._first_waiting = time.monotonic()
            self.wanted.set()
            try:
                async with asyncio.timeout(self.spec.wake_timeout_s):
                    await self._gate.wait()
            except TimeoutError:
                return _say(503, "the engine did not wake in time", retry_after_s=30)
            finally:
                self._waiting -= 1
                if not self._waiting:
                    # Nobody is left to wake the engine for.
                    self._first_waiting = None
                    self.wanted.clear()
        if self._refusing:
            return _say(503, "the server is being stopped", retry_after_s=30)
        self._in_flight += 1
        self.last_active = time.monotonic()
        return None

    async def _pass_on(self, request: web.Request, body: bytes) -> web.StreamResponse:
        from aiohttp import HttpVersion11, web
        from multidict import CIMultiDict

        try:
            answer = await self._upstream.ask(request.method, request.rel_url.raw_path_qs, request.raw_headers, body)
        except EngineGoneError as error:
            return _say(502, f"the engine does not answer: {error}")
        try:
            head = await answer.head()
            reply = web.StreamResponse(status=head.status, headers=CIMultiDict(head.headers))
            reply.content_length = head.length
            if head.length is None and request.version < HttpVersion11:
                reply.force_close()  # its end is that of the connection
            await reply.prepare(request)
            if request.transport is not None:
                chunked = reply.headers.get("Transfer-Encoding") == "chunked"
                await answer.pass_on(request.transport, request.writer.drain, chunked=chunked)
        except EngineGoneError:
            # The engine died in mid-answer: cut the connection, so that no client takes it for the end.
            if request.transport is not None:
                request.transport.abort()
            return reply
        finally:
            answer.release()
        await reply.write_eof()
        await request.writer.drain()
        return reply

    def _knows(self, authorization: str) -> bool:
        if self._digest is None:
            return True
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        return hmac.compare_digest(given, self._digest) and scheme.lower() == "bearer"

    def _models(self) -> dict[str, Any]:
        return {"object": "list", "data": [{"id": self.spec.model_id, "object": "model", "owned_by": "tokenhour"}]}

    async def _start(self) -> web.AppRunner:
        from aiohttp import web

        secured = tls_context(self.spec)
        self._gate = asyncio.Event()
        self._gate.set()
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=_SILENT,
            # A client that hangs up must not leave the engine generating for nobody.
            handler_cancellation=True,
            keepalive_timeout=self.spec.keepalive_s,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.spec.host, self.spec.port, ssl_context=secured, backlog=4096).start()
        except OSError:
            await self._stop(runner)
            raise
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        self._upstream.close()


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "tokenhour_front", "code": status}}


def _say(status: int, message: str, retry_after_s: int | None = None) -> web.Response:
    from aiohttp import web

    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}
    text = json.dumps(_error(status, message))
    return web.Response(status=status, text=text, content_type="application/json", headers=headers)


def tls_context(spec: FrontSpec) -> ssl.SSLContext | None:
    """Return what the front ends TLS with; None without a certificate. Raises InputError for one that cannot be used."""
    if spec.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # An empty password: without one OpenSSL would ask for an encrypted key's at the terminal.
        context.load_cert_chain(spec.tls_certificate, spec.tls_key, password="")
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"not a usable certificate: {error}", where="operations.tls_certificate", remedy="give PEM files that fit"
        ) from error
    return context


@contextlib.contextmanager
def front(spec: FrontSpec) -> Iterator[Front]:
    """Run a front in a thread of its own while the block lasts; its port answers when the block begins.

    Raises InputError when the port is taken or the certificate cannot be used.
    """
    # Each held request is two sockets once it is let go: the usual soft limit of 1,024 files is too few.
    raise_file_limit()
    made = Front(spec)
    loop = made._loop  # noqa: SLF001 (one module)
    thread = threading.Thread(target=loop.run_forever, name="front", daemon=True)
    thread.start()
    try:
        try:
            runner = asyncio.run_coroutine_threadsafe(made._start(), loop).result(_START_S)  # noqa: SLF001
        except OSError as error:
            raise InputError(
                f"cannot listen on {spec.host} port {spec.port}: {error.strerror}",
                where="serving.port",
                remedy="stop what listens there, name another port, or 0 for a free one",
            ) from error
        try:
            yield made
        finally:
            asyncio.run_coroutine_threadsafe(made._stop(runner), loop).result(_START_S)  # noqa: SLF001
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_S)
        loop.close()
