"""TLS: an authority of its own is trusted where it is named, and nothing else is taken for a handshake."""

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.bench.conftest import keep_certificate
from tests.bench.server import running
from tests.bench.whole.test_endpoint import bench
from tokenhour.bench.http.tls import Secure
from tokenhour.bench.recording.tables import read_table
from tokenhour.contracts.records.endpoint import Endpoint
from tokenhour.contracts.records.request import REQUESTS_FILE, RequestRow


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that only who is told about it trusts, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=toy"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(argv, check=True, capture_output=True)
    return files


@pytest.mark.system
def test_an_https_endpoint_with_an_authority_of_its_own_is_measured(tmp_path: Path, authority: tuple[str, str]) -> None:
    """SSL_CERT_FILE lets servers with a private authority be measured; rows tell connecting from sending."""
    keep_certificate(tmp_path)
    with running(tls=authority) as toy:
        done = bench(tmp_path, toy.base_url, env={**os.environ, "SSL_CERT_FILE": authority[0]})
        assert toy.served > 0, done.stderr
    rows = read_table(tmp_path / "out" / REQUESTS_FILE, RequestRow)
    assert {r.outcome for r in rows} == {"success"}
    assert all(r.first_token_s > r.sent_s for r in rows)
    opened = [r for r in rows if r.taken_s is not None]
    assert opened
    assert all(r.scheduled_s <= r.taken_s < r.sent_s for r in opened)
    assert Endpoint.read(tmp_path / "out").base_url.startswith("https://")


@pytest.mark.system
def test_an_https_endpoint_that_nobody_vouches_for_is_refused(tmp_path: Path, authority: tuple[str, str]) -> None:
    """An untrusted certificate is never ignored; the message names SSL_CERT_FILE."""
    with running(tls=authority) as toy:
        done = bench(tmp_path, toy.base_url)
        assert toy.served == 0
    assert done.returncode == 2
    assert "certificate" in done.stderr.lower()
    assert "SSL_CERT_FILE" in done.stderr
    assert "Traceback" not in done.stderr


class Witness:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended: list[tuple[str, int]] = []

    def end(self, reason: str, at_ns: int) -> None:
        """Keep the reason and when it was told."""
        self.ended.append((reason, at_ns))

    def ready(self) -> None:
        """Fail: nothing here makes a connection."""
        raise AssertionError

    def push(self, data: bytes | memoryview) -> None:
        """Keep the bytes."""
        self.sent += data

    def waits(self) -> bool:
        """Answer that a request is on it."""
        return True


def test_a_server_that_speaks_plain_http_ends_the_request_with_the_reason() -> None:
    """An https URL of a port without TLS is a failed connection and no traceback."""
    carrier = Witness()
    secure = Secure(carrier, ssl.create_default_context(), "127.0.0.1")
    secure.handshake()
    assert carrier.sent
    assert carrier.ended == []
    assert secure.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n") == b""
    ((reason, _),) = carrier.ended
    assert reason.startswith("connection\0TLS: ")
    assert not secure.established
