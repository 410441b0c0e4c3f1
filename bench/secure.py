"""TLS of a connection, by memory buffers: the bytes are read and sent where all others are (`bench.connection`)."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.connection import Connection

_READ_BYTES = 1 << 18


class Secure:
    """TLS over a connection's own reading and writing, by memory buffers."""

    def __init__(self, connection: Connection) -> None:
        context = connection.plane.tls
        if context is None:
            raise AssertionError
        self.connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=connection.plane.host)
        self.established = False

    def handshake(self) -> None:
        """Go on with the handshake as far as the bytes reach."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self._emit()
            return
        except ssl.SSLError as error:
            self.connection.end(f"connection\0TLS: {error.reason or error}", time.monotonic_ns())
            return
        self.established = True
        self._emit()
        if self.connection.on_end is not None:  # not lost while the last of the handshake was sent
            self.connection.ready()

    def send(self, data: bytes | memoryview) -> None:
        """Encrypt and send."""
        self.tls.write(data)
        self._emit()

    def receive(self, block: bytes) -> bytes:
        """Decrypt what has come; empty while a record is incomplete."""
        self.incoming.write(block)
        if not self.established:
            self.handshake()
            return b""
        found = []
        try:
            while part := self.tls.read(_READ_BYTES):
                found.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.connection.end(f"connection\0TLS: {error.reason or error}", time.monotonic_ns())
            return b""
        return b"".join(found)

    def _emit(self) -> None:
        if data := self.outgoing.read():
            self.connection.push(data)
