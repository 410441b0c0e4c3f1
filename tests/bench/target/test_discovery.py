"""What answers at a URL, and what may not be there at all: said in a line before any load."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.server import running
from tokenhour.bench.target.discovery import probe_endpoint
from tokenhour.bench.telemetry.sampler import read_engine
from tokenhour.contracts.errors import InputError
from tokenhour.contracts.records.endpoint import Load

LOAD = {"workload": {"prompt": {"mean_tokens": 12}, "output": {"mean_tokens": 6}}, "slo": {"percentile": 50, "ttft_s": 0.5}}


def load(**more: Any) -> Load:
    """Return a small load with these settings."""
    return Load.model_validate({"record": "load", "version": 1, **LOAD, **more})


@contextlib.contextmanager
def saying(text: bytes) -> Iterator[str]:
    """A server that says one thing to everybody and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    peer.recv(1 << 16)
                    peer.sendall(text)
                    peer.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_what_speaks_something_else_is_no_openai_server(said: bytes) -> None:
    """Pointing at SSH or a broken server gives a message instead of a parse error."""
    with saying(said) as url, pytest.raises(InputError, match="no OpenAI-compatible server"):
        probe_endpoint(url, "toy", load())


def test_metrics_that_break_off_are_none() -> None:
    """Half a /metrics page gives no counters rather than wrong ones."""
    with saying(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nvllm:prompt") as url:
        assert read_engine(url) == {}


def test_a_tokenizer_file_that_is_none_is_refused_before_any_request(tmp_path: Path) -> None:
    """The field and file are named while the server is still untouched."""
    (tmp_path / "tokenizer.json").write_text("{")
    with running() as toy:
        with pytest.raises(InputError, match=r"tokenizer = .*not readable"):
            probe_endpoint(toy.base_url, "toy", load(tokenizer=str(tmp_path / "tokenizer.json")))
        assert toy.served == 0


def test_an_endpoint_without_a_list_of_models_is_asked_all_the_same_and_it_is_said() -> None:
    """Gateways without /v1/models are measured, with a note that the model was not checked."""
    with running(lists=False) as toy:
        found = probe_endpoint(toy.base_url, "toy", load())
    assert found.api == "completions"
    assert any("lists no models" in said for said in found.degraded)


def test_a_server_that_knows_none_of_the_paths_is_refused() -> None:
    """A web server that answers 404 is told apart from an inference server."""
    refused = pytest.raises(InputError, match="refuses a plain request: HTTP 404")
    with saying(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno") as url, refused:
        probe_endpoint(url, "toy", load())
