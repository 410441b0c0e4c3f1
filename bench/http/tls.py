"""TLS of a connection, by memory buffers: the bytes are read and sent where all others are, in `connection`."""

from __future__ import annotations

import ssl
import time
from typing import Protocol

_READ_BYTES = 1 << 18


class Carrier(Protocol):
    """The connection whose bytes are encrypted."""

    def end(self, reason: str, at_ns: int) -> None:
        """Finish the request."""

    def ready(self) -> None:
        """Go on once the connection stands."""

    def push(self, data: bytes | memoryview) -> None:
        """Give bytes to the socket."""

    def waits(self) -> bool:
        """Tell whether a request is on it."""


class Secure:
    """TLS over a connection's own reading and writing, by memory buffers."""

    def __init__(self, connection: Carrier, context: ssl.SSLContext, host: str) -> None:
        self.connection = connection
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
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
        if self.connection.waits():  # not lost while the last of the handshake was sent
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
