"""The load generator: Locust runs the users, the data plane and the records are ours. The one file that imports locust.

`import locust` monkey-patches the process, so this runs as a subprocess: `python -m bench.generator`. It reads one JSON
command a line on standard input ({"probe": ...} starts a probe, {"cancel": true} ends its arrivals), appends a JSON line
a finished request to the probe's file, and answers {"done": probe} on standard output. When standard input closes, it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import gevent  # noqa: TID253 (this file is the generator)
from gevent import socket  # noqa: TID253
from gevent.event import Event  # noqa: TID253
from gevent.fileobject import FileObject  # noqa: TID253
from locust import User, constant, task  # noqa: TID253
from locust.env import Environment  # noqa: TID253

from bench.stream import Parsed, Pieces, parse
from contracts.process import die_with_parent
from contracts.request import RequestRow

_RECV_BYTES = 1 << 16


class Probe:
    """A running probe: its orders, where its records go, and whether arrivals go on."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.zero: float = orders["zero_monotonic_s"]
        self.started: float = orders["start_monotonic_s"]
        self.asks: list[dict[str, Any]] = orders["asks"]
        self.next = 0
        self.cancelled = False
        self.open: set[gevent.Greenlet] = set()
        self.sink = open(orders["file"], "a", encoding="utf-8", buffering=1)  # noqa: SIM115, PTH123 (lives with the probe)
        url = urlsplit(orders["base_url"])
        self.address = (url.hostname or "127.0.0.1", url.port or 80)

    def take(self) -> dict[str, Any] | None:
        """Hand out the next request of a closed loop; None when the probe is over."""
        over = self.cancelled or time.monotonic() >= self.started + self.orders["horizon_s"]
        if over or self.next >= len(self.asks):
            return None
        self.next += 1
        return self.asks[self.next - 1]

    def fire(self, ask: dict[str, Any], scheduled: float) -> None:
        """Send one request and record it, whatever becomes of it."""
        sent, pieces, failure = exchange(self, ask)
        row = to_row(self, ask, scheduled, sent, pieces, failure)
        self.sink.write(json.dumps(asdict(row)) + "\n")


def request_bytes(orders: dict[str, Any], ask: dict[str, Any], address: tuple[str, int]) -> bytes:
    """Write the HTTP request: exact lengths, greedy, usage in every chunk."""
    body = json.dumps(
        {
            "model": orders["model_id"],
            "prompt": ask["prompt"],
            "max_tokens": ask["output_tokens"],
            "min_tokens": ask["output_tokens"],
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
    ).encode()
    key = os.environ.get("OPENAI_API_KEY")
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Type: application/json\r\n"
        f"{authorization}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def exchange(probe: Probe, ask: dict[str, Any]) -> tuple[float | None, Pieces, tuple[str, str] | None]:
    """Talk to the server: (time sent, pieces received, failure). The clock is read before anything is looked at."""
    orders = probe.orders
    data = request_bytes(orders, ask, probe.address)
    deadline = time.monotonic() + orders["timeout_s"]
    pieces: Pieces = []
    sent: float | None = None
    try:
        with socket.create_connection(probe.address, timeout=orders["inactivity_timeout_s"]) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sent = time.monotonic()
            connection.sendall(data)
            while True:
                connection.settimeout(max(0.001, min(orders["inactivity_timeout_s"], deadline - time.monotonic())))
                block = connection.recv(_RECV_BYTES)
                now = time.monotonic()
                if not block:
                    return sent, pieces, None
                pieces.append((now, block))
                if block.endswith(b"0\r\n\r\n") and b"[DONE]" in block:
                    return sent, pieces, None
    except TimeoutError:
        return (
            sent,
            pieces,
            ("timeout", f"nothing for {orders['inactivity_timeout_s']} s, or longer than {orders['timeout_s']} s"),
        )
    except OSError as error:
        return sent, pieces, ("connection", str(error))


def to_row(
    probe: Probe,
    ask: dict[str, Any],
    scheduled: float,
    sent: float | None,
    pieces: Pieces,
    failure: tuple[str, str] | None,
) -> RequestRow:
    """Make the record of a request; times become seconds on the run's clock."""
    finished = pieces[-1][0] if pieces else time.monotonic()
    found = parse(pieces) if pieces or failure is None else Parsed()
    if failure is not None and found.outcome != "success":
        found.outcome, found.detail = failure  # type: ignore[assignment]
    times = found.token_times

    def clock(at: float | None) -> float | None:
        return None if at is None else at - probe.zero

    return RequestRow(
        request_id=ask["request_id"],
        probe=probe.orders["probe"],
        worker=0,
        scheduled_s=scheduled - probe.zero,
        sent_s=clock(sent),
        first_token_s=clock(times[0]) if times else None,
        last_token_s=clock(times[-1]) if times else None,
        finished_s=finished - probe.zero,
        outcome=found.outcome,
        status=found.status,
        detail=found.detail,
        prompt_tokens_requested=len(ask["prompt"]),
        output_tokens_requested=ask["output_tokens"],
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        cached_tokens=found.cached_tokens,
        first_chunk_tokens=found.token_counts[0] if times else None,
        chunks=len(times),
        chunk_offsets_s=[t - (sent or t) for t in times],
        chunk_tokens=found.token_counts,
        finish_reason=found.finish_reason,
    )


class Dispatcher(User):
    """Open loop: one user that sleeps to absolute times and spawns a greenlet an arrival."""

    wait_time = constant(0)

    @task
    def dispatch(self) -> None:
        """Walk through the schedule once, then stop."""
        probe: Probe = self.environment.parsed_options
        for ask in probe.asks:
            due = probe.started + ask["at_s"]
            if (pause := due - time.monotonic()) > 0:
                gevent.sleep(pause)
            if probe.cancelled:
                break
            greenlet = gevent.spawn(probe.fire, ask, due)
            probe.open.add(greenlet)
            greenlet.link(probe.open.discard)
        gevent.joinall(list(probe.open))
        probe.orders["finished"].set()
        gevent.sleep(3600)


class Loop(User):
    """Closed loop: each user sends its next request when the last one has ended."""

    wait_time = constant(0)

    @task
    def loop(self) -> None:
        """Send requests until the probe is over."""
        probe: Probe = self.environment.parsed_options
        while (ask := probe.take()) is not None:
            probe.fire(ask, time.monotonic())
        probe.orders["idle"] += 1
        if probe.orders["idle"] == probe.orders["users"]:
            probe.orders["finished"].set()
        gevent.sleep(3600)


def run_probe(probe: Probe) -> None:
    """Let Locust run the probe's users until the last request has ended."""
    orders = probe.orders
    closed = orders["concurrency"] is not None
    orders |= {"finished": Event(), "idle": 0, "users": orders["concurrency"] or 1}
    environment = Environment(user_classes=[Loop if closed else Dispatcher], parsed_options=probe)
    runner = environment.create_local_runner()
    if (pause := probe.started - time.monotonic()) > 0 and closed:
        gevent.sleep(pause)
    runner.start(orders["users"], spawn_rate=orders["users"])
    orders["finished"].wait()
    runner.quit()
    probe.sink.close()


def main() -> None:
    """Obey commands until standard input closes."""
    parent = os.environ.pop("TOKENHOUR_PARENT_PID", "")
    if parent:
        die_with_parent(int(parent))
    # On a machine that it shares with the engine it must not wait for a core; it needs a few percent of one.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    commands = FileObject(sys.stdin.buffer, "rb")
    print(json.dumps({"ready": True}), flush=True)
    running: Probe | None = None
    for line in commands:
        order = json.loads(line)
        if order.get("cancel"):
            if running is not None:
                running.cancelled = True
            continue
        with open(order["plan"], encoding="utf-8") as stream:  # noqa: PTH123
            running = Probe(json.load(stream))
        gevent.spawn(_run_and_tell, running)


def _run_and_tell(probe: Probe) -> None:
    run_probe(probe)
    print(json.dumps({"done": probe.orders["probe"]}), flush=True)


if __name__ == "__main__":
    main()
