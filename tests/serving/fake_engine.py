"""An engine for supervision tests: a process tree that answers like an OpenAI server, or misbehaves as told.

python -m tests.serving.fake_engine PORT MODE
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Health, and one answer."""

    def log_message(self, *_):
        pass

    def _send(self, status, body=b"{}"):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._send(200 if self.path == "/health" else 404)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        mode = sys.argv[2]
        if mode == "no-chat" and "chat" in self.path:
            return self._send(400)
        if mode == "broken":
            return self._send(500)
        key = {"message": {"content": " Paris. "}} if "chat" in self.path else {"text": " Paris. "}
        return self._send(200, json.dumps({"choices": [key]}).encode())


def main() -> None:
    port, mode = int(sys.argv[1]), sys.argv[2]
    print("INFO quantization=compressed-tensors", flush=True)
    if mode == "dies":
        print("RuntimeError: CUDA out of memory. Tried to allocate 2 GiB", flush=True)
        sys.exit(3)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A worker that has left the session, as an engine's core process may: only adoption finds it.
    code = "import os, signal, time; os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    worker = subprocess.Popen([sys.executable, "-c", code])
    print(f"worker {worker.pid}", flush=True)
    if mode == "silent":
        time.sleep(600)
    print("Loading weights took 0.1 seconds", flush=True)
    if mode == "leaves":
        os._exit(0)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
