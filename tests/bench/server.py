"""A small deterministic server that streams completions, with faults on demand. Runs in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

FAULTS = {
    "truncate": "truncated",
    "reset": "connection",
    "malformed": "malformed",
    "in_band": "in_band_error",
    "500": "http_error",
    "429": "http_error",
    "503": "http_error",
    "stall": "timeout",
}
"""The kinds of broken streams, and the outcome that each is recorded with."""


@dataclass
class Server:
    """First token after `ttft_s`, then one every `itl_s`, `slots` at once.

    `faults` breaks every `every`-th request, one kind after the other. `closes` ends the connection after each answer
    without saying so beforehand. `plain` speaks the OpenAI API alone: no usage but at the end, no token ids, no ignore_eos.
    """

    ttft_s: float = 0.02
    itl_s: float = 0.002
    slots: int = 1000
    faults: tuple[str, ...] = ()
    closes: bool = False
    plain: bool = False
    lists: bool = True
    """It has /v1/models."""
    key: str = ""
    every: int = 1
    prompt_tokens: int = 0
    generation_tokens: int = 0
    served: int = 0
    port: int = 0
    tls: tuple[str, str] | None = None
    """Files of certificate and key, to speak https."""
    extra_counted: int = 0
    """Tokens that the engine's counter shows beyond what was sent."""
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @property
    def base_url(self) -> str:
        """Return the URL that a client is given."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests of a connection until it ends."""
        try:
            while await self._answer(reader, writer) and not self.closes:
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        if self.key and f"authorization: bearer {self.key}" not in head.lower():
            return _plain(writer, '{"error": {"message": "wrong key"}}', "401 Unauthorized")
        if path == "/metrics" and not self.plain:
            return _plain(
                writer,
                f'vllm:prompt_tokens_total{{engine="0"}} {self.prompt_tokens}\n'
                f'vllm:generation_tokens_total{{engine="0"}} {self.generation_tokens + self.extra_counted}\n'
                'vllm:num_requests_running{engine="0"} 0.0\n',
            )
        if path == "/v1/models" and self.lists:
            return _plain(writer, json.dumps({"data": [{"id": "toy"}]}))
        if not head.startswith("POST") or (self.plain and path == "/v1/completions"):
            return _plain(writer, "{}", "404 Not Found")
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
        body = json.loads(await reader.readexactly(length))
        if self.plain and "ignore_eos" in body:
            return _plain(writer, '{"error": {"message": "unknown field ignore_eos"}}', "400 Bad Request")
        if not body.get("stream"):
            usage = {"prompt_tokens": count_prompt(body), "completion_tokens": body["max_tokens"]}
            return _plain(writer, json.dumps({"choices": [{"finish_reason": "length"}], "usage": usage}))
        self.served += 1
        broken = self.faults and self.served % self.every == 0
        fault = self.faults[self.served // self.every % len(self.faults)] if broken else ""
        if fault.isdigit():
            return _plain(writer, "no", f"{fault} X\r\nRetry-After: 1")
        async with self.gate:
            return await self._stream(writer, body, fault)

    async def _stream(self, writer: asyncio.StreamWriter, body: dict, fault: str) -> bool:
        wanted, prompt = body["max_tokens"], count_prompt(body)
        self.prompt_tokens += prompt
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(self.ttft_s)
        for k in range(1, wanted + 1):
            if k > 1:
                await asyncio.sleep(self.itl_s)
            if k > wanted // 2 and fault:
                if fault == "trickle":
                    await asyncio.sleep(self.itl_s * 20)
                else:
                    await self._break(writer, fault)
                    return False
            self.generation_tokens += 1
            finish = "length" if k == wanted else None
            usage = {"prompt_tokens": prompt, "completion_tokens": k}
            said = {"delta": {"content": "x"}} if "messages" in body else {"text": "x"}
            event = {"choices": [{**said, "finish_reason": finish}]}
            _event(writer, event if self.plain else {**event, "usage": usage})
            await writer.drain()
        _event(writer, {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": wanted}})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _break(self, writer: asyncio.StreamWriter, fault: str) -> None:
        if fault == "reset":
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif fault == "truncate":
            writer.write(b"0\r\n\r\n")
        elif fault == "malformed":
            _chunk(writer, b"data: {not json\n\n")
            writer.write(b"0\r\n\r\n")
        elif fault == "in_band":
            _event(writer, {"error": {"message": "out of memory"}})
            writer.write(b"0\r\n\r\n")
        elif fault == "stall":
            await asyncio.sleep(30)
        await writer.drain()


def count_prompt(body: dict) -> int:
    """Count token ids, or words of a text; a chat's template adds 5."""
    if "messages" in body:
        return 5 + len(body["messages"][0]["content"].split())
    return len(body["prompt"]) if isinstance(body["prompt"], list) else len(body["prompt"].split())


def _plain(writer: asyncio.StreamWriter, text: str, status: str = "200 OK") -> bool:
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    return True


def _event(writer: asyncio.StreamWriter, message: dict) -> None:
    _chunk(writer, b"data: " + json.dumps(message).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@contextmanager
def running(**settings: object) -> Iterator[Server]:
    """Serve in a thread until the block ends."""
    server = Server(**settings)
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def start() -> asyncio.Server:
        server.gate = asyncio.Semaphore(server.slots)
        secure = None
        if server.tls:
            secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            secure.load_cert_chain(*server.tls)
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=secure)
        server.port = listening.sockets[0].getsockname()[1]
        ready.set()
        return listening

    def run() -> None:
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(start())
        loop.run_forever()
        listening.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
