"""Whether the server still answers: it is asked, beside the load, only where all that ends gives reason to doubt."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence

from tokenhour.bench.statistics.early_stop import answered, silent
from tokenhour.bench.target.openai_api import parse_url
from tokenhour.contracts.records.request import RequestRow

_EVERY_S = 1.0  # a server that answers slowly is not asked more often
_LEAST_PATIENCE_S = 1.0  # below it a busy machine decides, not the server
_MOST_PATIENCE_S = 2.0  # no request had an answer for the whole inactivity timeout: its models it should know by heart


def knock(base_url: str, patience_s: float) -> str:
    """Ask the server for its models; return why no answer comes, or nothing. An error is an answer too."""
    where = parse_url(base_url)
    kind = http.client.HTTPSConnection if where.tls else http.client.HTTPConnection
    connection = kind(where.host, where.port, timeout=patience_s)
    try:
        connection.request("GET", f"{where.path}/v1/models")
        connection.getresponse()
    except TimeoutError:
        return f"nothing for {patience_s:g} s"
    except (http.client.HTTPException, ConnectionResetError, BrokenPipeError, ssl.SSLError, socket.gaierror):
        return ""  # somebody took the connection, or nobody looked it up: trouble, but not the server's absence
    except OSError as error:
        return error.strerror or str(error)
    finally:
        connection.close()
    return ""


class _Question:
    """A knock under way in a thread of its own: a server that hangs must not hold up the watching."""

    def __init__(self, base_url: str, patience_s: float, asked_s: float) -> None:
        self.asked_s = asked_s
        self.found = ""
        self._thread = threading.Thread(target=self._ask, args=(base_url, patience_s), daemon=True)
        self._thread.start()

    def _ask(self, base_url: str, patience_s: float) -> None:
        self.found = knock(base_url, patience_s)

    def over(self, *, wait: bool) -> bool:
        """Tell whether the knock has come to its end."""
        if wait:
            self._thread.join()
        return not self._thread.is_alive()


class Pulse:
    """Watches a server through the requests that end (times in s on the run's clock), and knocks where they all fail."""

    def __init__(self, base_url: str, inactivity_timeout_s: float) -> None:
        self._base_url = base_url
        self._silence_s = inactivity_timeout_s
        self._patience_s = max(_LEAST_PATIENCE_S, min(_MOST_PATIENCE_S, inactivity_timeout_s))
        self._question: _Question | None = None
        self._asked_at = 0.0

    def lost(self, rows: Sequence[RequestRow], now_s: float, *, wait: bool = False) -> str:
        """Return why the server does not answer any more, or nothing. With `wait` a knock that is wanted is waited for."""
        rested = wait or time.monotonic() - self._asked_at > _EVERY_S
        if self._question is None and rested and silent(rows, now_s, self._silence_s):
            self._asked_at = time.monotonic()
            self._question = _Question(self._base_url, self._patience_s, now_s)
        if self._question is None or not self._question.over(wait=wait):
            return ""
        question, self._question = self._question, None
        # A request that got its answer meanwhile knows better.
        return "" if answered(rows, question.asked_s) else question.found
