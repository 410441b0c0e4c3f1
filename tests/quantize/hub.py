"""A hub on loopback that speaks what huggingface_hub and datasets ask for: revision, tree, files, or a refusal."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Reply = tuple[int, bytes, dict[str, str]]


def _json(value: Any) -> Reply:
    return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def answer(folder: Path, path: str) -> Reply:
    """Return status, body and headers for a path of acme/tiny, a model or a dataset, licensed apache-2.0."""
    files = sorted(folder.iterdir())
    path, _, asked = path.partition("?")
    if "/absent" in path:
        return 404, b"", {"X-Error-Code": "RevisionNotFound"}
    if path.startswith(("/api/models/acme/tiny", "/api/datasets/acme/tiny")):
        if "/tree/" in path:
            return _json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files])
        # Sizes are told only to those who ask for them.
        sizes = {f.name: {"size": f.stat().st_size} if "blobs=" in asked else {} for f in files}
        siblings = [{"rfilename": f.name, **sizes[f.name]} for f in files]
        card = {"license": "apache-2.0"}
        return _json({"id": "acme/tiny", "modelId": "acme/tiny", "sha": COMMIT, "siblings": siblings, "cardData": card})
    file = folder / path.rsplit("/", 1)[-1]
    if not file.is_file():
        return 404, b"", {"X-Error-Code": "EntryNotFound"}
    body = file.read_bytes()
    return 200, body, {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}


@contextlib.contextmanager
def hub(folder: Path, refusal: str | None = None) -> Iterator[str]:
    """Serve `folder`; with a `refusal`, answer everything with 401 and that error code, or message of several words."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Keep quiet."""

        def do_GET(self) -> None:
            """Answer from the folder, or refuse."""
            status, body, headers = answer(folder, self.path)
            if refusal:
                kind = "X-Error-Code" if refusal.isalpha() else "X-Error-Message"
                status, body, headers = 401, b"", {kind: refusal}
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET  # noqa: N815 (http.server's name)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
