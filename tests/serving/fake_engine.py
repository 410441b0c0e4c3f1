"""An engine for supervision tests: a process tree that answers like an OpenAI server, or misbehaves as told.

python -m tests.serving.fake_engine PORT MODE
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class State:
    """What the engine counts, and whether it sleeps."""

    lock = threading.Lock()
    running = 0
    succeeded = 0
    asleep = False
    stopping = False


class Server(ThreadingHTTPServer):
    """Many at once: a wake lets a thousand requests go."""

    request_queue_size = 2048
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    """Health, models, metrics, sleep, and answers, streamed or whole."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Keep quiet: the tests read what the engine prints."""

    def _send(self, status: int, body: bytes = b"{}") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer health, models, metrics and sleep state as vLLM does."""
        if self.path == "/health":
            return self._send(200)
        if self.path == "/v1/models":
            return self._send(200, json.dumps({"object": "list", "data": [{"id": "Toy-w8a8", "object": "model"}]}).encode())
        if self.path == "/metrics":
            text = (
                f'vllm:num_requests_running{{engine="0"}} {State.running}\nvllm:num_requests_waiting 0\n'
                f"vllm:request_success_total {State.succeeded}\nvllm:kv_cache_usage_perc 0.25\n"
            )
            return self._send(200, text.encode())
        if self.path == "/is_sleeping":
            return self._send(200, json.dumps({"is_sleeping": State.asleep}).encode())
        return self._send(404)

    def do_POST(self) -> None:
        """Answer a completion, sleep or wake up; misbehave where the mode says so."""
        mode = sys.argv[2]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith(("/sleep", "/wake_up")):
            State.asleep = self.path.startswith("/sleep")
            time.sleep(0.05)
            return self._send(200)
        if mode == "keyed" and self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            return self._send(401)
        if mode in {"no-chat", "mute"} and "chat" in self.path:
            return self._send(400)
        if mode == "faints":
            print("torch.OutOfMemoryError: CUDA out of memory", flush=True)
            os._exit(1)
        if mode == "hangs":
            time.sleep(600)
        if mode in {"broken", "mute"}:
            return self._send(500)
        if State.asleep:
            return self._send(500, b'{"error": "asleep"}')
        ask = json.loads(body)
        with State.lock:
            State.running += 1
        try:
            return self._answer(ask)
        finally:
            with State.lock:
                State.running -= 1
                State.succeeded += 1

    def _answer(self, ask: dict[str, Any]) -> None:
        if ask.get("die"):
            os._exit(9)
        if ask.get("stream"):
            return self._stream(ask)
        time.sleep(ask.get("hold_s", 0))
        said = {"message": {"role": "assistant", "content": " Paris. "}} if "chat" in self.path else {"text": " Paris. "}
        answer = {
            "id": "1",
            "object": "chat.completion" if "chat" in self.path else "text_completion",
            "model": ask.get("model", ""),
            "choices": [{"index": 0, "finish_reason": "stop", **said}],
            "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
            "port": int(sys.argv[1]),
        }
        return self._send(200, json.dumps(answer).encode())

    def _stream(self, ask: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(ask["max_tokens"]):
            time.sleep(ask.get("interval_s", 0.01))
            event = {"n": number, "sent_ns": time.monotonic_ns(), "choices": [{"text": " word"}]}
            self._chunk(f"data: {json.dumps(event)}\n\n".encode())
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


def drain(server: Server) -> None:
    """Let running requests end, as an engine with --shutdown-timeout does."""
    while State.running:
        time.sleep(0.02)
    server.shutdown()


def main() -> None:
    """Start the tree, print what an engine prints, and serve or misbehave by the mode."""
    port, mode = int(sys.argv[1]), sys.argv[2]
    print("INFO Initializing a V1 LLM engine, quantization=compressed-tensors", flush=True)
    if mode == "dies":
        print("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB", flush=True)
        sys.exit(3)
    if mode == "moody":
        be_moody()
    if mode == "leaks":
        print(f"my key is {os.environ['VLLM_API_KEY']} and {os.environ.get('HF_TOKEN')}", flush=True)
        print(f"my password is {os.environ.get('REGISTRY_PASSWORD')}", flush=True)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A worker that has left the session, as an engine's core process may: only adoption finds it. It names itself, too.
    code = "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    code += "import importlib.util as i; has = i.find_spec('setproctitle'); "
    code += "has and __import__('setproctitle').setproctitle('VLLM::EngineCore'); time.sleep(600)"
    worker = subprocess.Popen([sys.executable, "-c", code])
    print(f"worker {worker.pid}", flush=True)
    if mode == "silent":
        time.sleep(600)
    print("Loading weights took 0.1 seconds", flush=True)
    print("init engine (profile, create kv cache, warmup model) took 0.1 s", flush=True)
    if mode == "leaves":
        os._exit(0)
    if mode == "chatty":
        threading.Thread(target=chat, daemon=True).start()
    server = Server(("127.0.0.1", port), Handler)
    if mode in {"drains", "fleet"}:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=drain, args=(server,)).start())
    server.serve_forever()
    os._exit(0)


def be_moody() -> None:
    """Do what files in the folder say: not start, or start very slowly."""
    if Path("ill").exists():
        print("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB", flush=True)
        sys.exit(3)
    if Path("slow").exists():
        time.sleep(600)


def chat() -> None:
    """Print more than a log may hold."""
    for number in range(20_000):
        print(f"line {number} " + "x" * 80, flush=True)


if __name__ == "__main__":
    main()
