"""A stream succeeded only with a finish reason, a usage record and [DONE]; an event counts when its last byte came."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenhour.bench.recording.response_parser import parse

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(tokens: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    """Return a message of a stream with this token count."""
    return {
        "choices": [{"text": "x", "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens},
        **more,
    }


def chunk(data: bytes) -> bytes:
    """Encode a piece by HTTP's chunked coding."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def sse(message: Any) -> bytes:
    """Encode a message as a server-sent event."""
    return b"data: " + json.dumps(message).encode() + b"\n\n"


GOOD = [event(1), event(2), event(3, "length"), {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}]
WHOLE = HEAD + b"".join(chunk(sse(m)) for m in GOOD) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def test_a_whole_stream_succeeds_with_its_tokens_and_times() -> None:
    """Each token has the time at which its event was complete."""
    pieces = (
        [(0.0, HEAD)]
        + [(1.0 + k, chunk(sse(m))) for k, m in enumerate(GOOD)]
        + [(9.0, chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")]
    )
    found = parse(pieces)
    assert (found.outcome, found.completion_tokens, found.prompt_tokens, found.finish_reason) == ("success", 3, 5, "length")
    assert found.token_times == [1.0, 2.0, 3.0]
    assert found.token_counts == [1, 1, 1]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_however_the_bytes_are_cut_the_same_tokens_come_out(cuts: list[int]) -> None:
    """The network's packet borders have no influence on outcome and token counts."""
    edges = sorted({0, len(WHOLE), *cuts})
    pieces = [(float(b), WHOLE[a:b]) for a, b in pairwise(edges)]
    found = parse(pieces)
    assert (found.outcome, found.token_counts) == ("success", [1, 1, 1])
    assert found.token_times == sorted(found.token_times)


@given(st.integers(1, len(WHOLE) - 1))
def test_a_stream_that_is_cut_off_never_succeeds_before_done(length: int) -> None:
    """A lost connection is never taken for a short answer."""
    found = parse([(0.0, WHOLE[:length])])
    assert (found.outcome == "success") == (b"[DONE]\n\n" in WHOLE[:length])


def test_two_tokens_in_one_chunk_count_as_two() -> None:
    """Servers may batch tokens: counts come from usage, not from the number of events."""
    body = chunk(sse(event(2))) + chunk(sse(event(4, "stop"))) + chunk(b"data: [DONE]\n\n")
    assert parse([(1.0, HEAD + body)]).token_counts == [2, 2]


@pytest.mark.parametrize(
    ("body", "outcome", "detail"),
    [
        (chunk(sse(event(1))) + b"0\r\n\r\n", "truncated", "finish reason"),
        (chunk(sse(event(1, "length"))) + b"0\r\n\r\n", "truncated", "[DONE]"),
        (chunk(sse({"choices": [{"finish_reason": "stop"}]})) + chunk(b"data: [DONE]\n\n"), "truncated", "usage"),
        (chunk(sse({"error": {"message": "boom"}})), "in_band_error", "boom"),
        (chunk(b"data: {oops\n\n"), "malformed", "oops"),
        (chunk(b"data: [1]\n\n"), "in_band_error", "[1]"),
        (chunk(sse({**event(1), "usage": "x"})), "malformed", "not what the API sends"),
        (chunk(sse({**event(1), "choices": ["x"]})), "malformed", "not what the API sends"),
        (chunk(sse({**event(1), "choices": 5})), "malformed", "not what the API sends"),
        (chunk(sse({"choices": [{"delta": "x"}]})), "malformed", "not what the API sends"),
        (chunk(sse(event("5"))), "malformed", "'5' is no number of tokens"),
        (chunk(sse(event(-5))), "malformed", "-5 is no number of tokens"),
        (chunk(sse(event(True))), "malformed", "True is no number of tokens"),
        (chunk(sse(event(1 << 40))), "malformed", "is no number of tokens"),
        (chunk(sse(event(1, ["stop"]))), "malformed", "is no finish reason"),
    ],
)
def test_what_is_not_a_whole_stream_is_named(body: bytes, outcome: str, detail: str) -> None:
    """Each way in which a stream breaks has an outcome and a detail of its own."""
    found = parse([(0.0, HEAD + body)])
    assert found.outcome == outcome
    assert detail in found.detail


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (b"", "connection"),
        (b"garbage", "malformed"),
        (b"HTTP/1.1 99999999999999999999 x\r\n\r\n", "malformed"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\nno", "http_error"),
    ],
)
def test_a_response_that_is_no_stream_is_named(raw: bytes, outcome: str) -> None:
    """No answer, garbage and HTTP errors are told apart."""
    assert parse([(0.0, raw)] if raw else []).outcome == outcome


def test_a_response_without_chunked_coding_is_read_too() -> None:
    """Servers that simply close the connection at the end are measured as well."""
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(sse(m) for m in GOOD) + b"data: [DONE]\n\n"
    assert parse([(2.0, raw)]).outcome == "success"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "text", "delta"]), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(st.fixed_dictionaries({}, optional={"delta": ANYTHING, "finish_reason": ANYTHING})) | ANYTHING,
        "usage": st.fixed_dictionaries({}, optional={"completion_tokens": ANYTHING, "prompt_tokens": ANYTHING}) | ANYTHING,
    },
)


@given(st.lists(MESSAGE | ANYTHING, max_size=4))
def test_whatever_json_comes_the_record_of_it_can_be_kept(messages: list[Any]) -> None:
    """A strange server can spoil its own requests but never the table of records."""
    found = parse([(1.0, HEAD + b"".join(chunk(sse(m)) for m in messages) + chunk(b"data: [DONE]\n\n"))])
    counts = [found.prompt_tokens, found.completion_tokens, found.cached_tokens, *found.token_counts]
    assert all(n is None or (type(n) is int and 0 <= n < 1 << 31) for n in counts)
    assert found.finish_reason is None or isinstance(found.finish_reason, str)
