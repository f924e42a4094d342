"""The parser agrees with an oracle that was written from the standard alone, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.eventstream import EventStream, ServerEvent
from tests.support.whatwg import EventSourceParser

_pieces = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"\n\n",
        b"data:",
        b"data: x",
        b"data",
        b"event: sms.sent",
        b"event:",
        b"id: 1-0",
        b"id",
        b"id: a\0b",
        b"retry: 300",
        b"retry: 3x",
        b"retry: \xd9\xa1",
        b":",
        b": hello",
        b"\xef\xbb\xbf",
        b"\xff",
        b"caf\xc3\xa9",
        b"\xc3",
        b"\xe2\x80\xa8",
        b" ",
        b"other: 1",
    ]
)
_streams = st.lists(_pieces, max_size=40).map(b"".join)


def _parse(chunks: list[bytes]) -> tuple[list[ServerEvent], str, int | None]:
    stream = EventStream("before")
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    return events, stream.last_event_id, stream.retry_ms


def _expected(text: bytes) -> tuple[list[tuple[str, str, str]], str, int | None]:
    oracle = EventSourceParser("before")
    oracle.feed(text)
    return [tuple(message) for message in oracle.messages], oracle.last_event_id, oracle.reconnection_ms


@given(_streams)
def test_whole_input(text: bytes) -> None:
    assert _parse([text]) == _expected(text)


@given(_streams)
def test_byte_by_byte(text: bytes) -> None:
    assert _parse([text[at : at + 1] for at in range(len(text))]) == _expected(text)


@given(_streams, st.lists(st.integers(0, 200), max_size=5))
def test_cut_anywhere(text: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert _parse([text[a:b] for a, b in pairwise(edges)]) == _expected(text)


def test_a_block_cut_before_its_blank_line_changes_nothing() -> None:
    stream = EventStream()
    assert stream.feed(b"data: 1\nid: 1-0\n\ndata: 2\nid: 2-0\n") == [ServerEvent("message", "1", "1-0")]
    assert stream.last_event_id == "1-0"


def test_comments_are_counted() -> None:
    stream = EventStream()
    stream.feed(b":\n: x\ndata: :\n\n")
    assert stream.comments == 2
