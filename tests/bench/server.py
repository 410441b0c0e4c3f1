"""A small deterministic server that streams completions, with faults on demand. Runs in a thread of the test."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Server:
    """First token after `ttft_s`, then one every `itl_s`, `slots` at once. `fault` breaks every `every`-th request."""

    ttft_s: float = 0.02
    itl_s: float = 0.002
    slots: int = 1000
    fault: str = ""
    every: int = 1
    prompt_tokens: int = 0
    generation_tokens: int = 0
    served: int = 0
    port: int = 0
    extra_counted: int = 0
    """Tokens that the engine's counter shows beyond what was sent."""
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        if path == "/metrics":
            text = (
                f'vllm:prompt_tokens_total{{engine="0"}} {self.prompt_tokens}\n'
                f'vllm:generation_tokens_total{{engine="0"}} {self.generation_tokens + self.extra_counted}\n'
                'vllm:num_requests_running{engine="0"} 0.0\n'
            )
            _plain(writer, text)
            return
        if path == "/v1/models":
            _plain(writer, json.dumps({"data": [{"id": "toy"}]}))
            return
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
        body = json.loads(await reader.readexactly(length))
        self.served += 1
        fault = self.fault if self.fault and self.served % self.every == 0 else ""
        if fault in {"500", "429"}:
            writer.write(f"HTTP/1.1 {fault} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode())
            await writer.drain()
            return
        async with self.gate:
            await self._stream(writer, body, fault)

    async def _stream(self, writer: asyncio.StreamWriter, body: dict, fault: str) -> None:
        wanted, prompt = body["max_tokens"], len(body["prompt"])
        self.prompt_tokens += prompt
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(self.ttft_s)
        for k in range(1, wanted + 1):
            if k > 1:
                await asyncio.sleep(self.itl_s)
            if k > wanted // 2 and fault:
                await self._break(writer, fault)
                return
            self.generation_tokens += 1
            finish = "length" if k == wanted else None
            usage = {"prompt_tokens": prompt, "completion_tokens": k}
            _event(writer, {"choices": [{"text": "x", "finish_reason": finish}], "usage": usage})
            await writer.drain()
        _event(writer, {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": wanted}})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

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


def _plain(writer: asyncio.StreamWriter, text: str) -> None:
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())


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
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
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
