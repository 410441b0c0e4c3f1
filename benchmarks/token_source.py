"""A streaming server and a client that know when each chunk was sent and received (CLOCK_MONOTONIC, one machine).

As a process: python -m benchmarks.token_source PORT
"""

import asyncio
import json
import sys
import time

_LEAD_S = 0.5  # in which all requests are there
REQUEST = (
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request: a stream of chunks at absolute times, each saying when it was sent."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:  # somebody looked whether the port is open
        writer.close()
        return
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    ask = json.loads(await reader.readexactly(length))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    began, period = ask["begin_s"], ask["interval_s"]
    for number in range(ask["max_tokens"]):
        await asyncio.sleep(max(0.0, began + number * period - time.monotonic()))
        data = b"data: %d\n\n" % time.monotonic_ns()
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    writer.close()


async def stream(port: int, tokens: int, interval_s: float, begin_s: float) -> list[float]:
    """Ask for one stream that begins at `begin_s` (time.monotonic); return each chunk's time from sent to received, s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"stream": True, "max_tokens": tokens, "interval_s": interval_s, "begin_s": begin_s}).encode()
    writer.write(REQUEST % (len(body), body))
    lags = []
    while line := await reader.readline():
        if line.startswith(b"data: "):
            lags.append((time.monotonic_ns() - int(line[6:])) / 1e9)
    writer.close()
    return lags


async def load(port: int, streams: int, tokens: int, interval_s: float, *, together: bool = False) -> list[float]:
    """Run several streams; return all lags, seconds.

    Their tokens are spread evenly over an interval, or come `together` as those of an engine's step do, whatever lies
    between: how long requests take to get through must not decide which tokens meet.
    """
    begin_s = time.monotonic() + _LEAD_S
    begins = [begin_s + (0.0 if together else number * interval_s / streams) for number in range(streams)]
    found = await asyncio.gather(*(stream(port, tokens, interval_s, at) for at in begins))
    return [lag for lags in found for lag in lags]


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
