"""HTTP to the server that is served or measured: JSON, the key where there is one, and no proxy."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tokenhour.machine.http import post_json


class Echo(BaseHTTPRequestHandler):
    """Says what it was asked, and with which key."""

    def do_POST(self) -> None:
        """Answer with the request's body and key."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        said = json.dumps({"key": self.headers["Authorization"], "body": json.loads(body)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    """Serve the echo at a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("key", "said"), [(None, None), ("", None), ("a key", "Bearer a key")])
def test_the_body_is_json_and_the_key_goes_along_where_there_is_one(url: str, key: str | None, said: str | None) -> None:
    """A server without a key gets no empty header that it would refuse."""
    assert json.loads(post_json(url, {"n": 1}, 10, key)) == {"key": said, "body": {"n": 1}}


def test_no_proxy_of_the_machine_is_asked(url: str) -> None:
    """Nothing listens where the proxy is said to be: the request would fail there."""
    code = "import sys; from tokenhour.machine.http import post_json; print(post_json(sys.argv[1], {}, 10).decode())"
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    argv = [sys.executable, "-c", code, url]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"key": None, "body": {}}
