"""The bytes of a stream, read by the reference parser: whole, byte by byte, and as the standard's own examples."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import redis
from hypothesis import given

from tests.sse.conftest import Add
from tests.support.gateway import GatewayProcess
from tests.support.sseclient import subscribe
from tests.support.whatwg import EventSourceParser, Message


def parse(*portions: bytes) -> EventSourceParser:
    parser = EventSourceParser()
    for portion in portions:
        parser.feed(portion)
    return parser


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        # WHATWG HTML, section 9.2.6, in order.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Message("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [Message("message", "first event", "1"), Message("message", "second event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:\n", [Message("message", "", ""), Message("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [Message("message", "test", "")] * 2),
        (
            b"\xef\xbb\xbfdata: x\r\rid: a\0b\ndata: y\r\n\r\n",
            [Message("message", "x", ""), Message("message", "y", "")],
        ),
        (b"event: e\n\ndata: x\n\n", [Message("message", "x", "")]),
    ],
)
def test_the_parser_reads_the_examples_of_the_standard(text: bytes, messages: list[Message]) -> None:
    assert parse(text).messages == messages
    assert parse(*(bytes([byte]) for byte in text)).messages == messages


@given(
    st.lists(
        st.sampled_from([b"data: x", b"id: 1", b":", b"event: e", b"\n", b"\r", b"\r\n", b"\xc3", b"\xa9", b"retry: 5"])
    )
)
def test_portions_do_not_matter(parts: list[bytes]) -> None:
    whole, pieces = parse(b"".join(parts)), parse(*parts)
    assert whole.messages == pieces.messages and whole.last_event_id == pieces.last_event_id
    assert whole.reconnection_ms == pieces.reconnection_ms and whole.comments == pieces.comments


async def test_a_whole_stream_and_its_bytes_say_the_same(
    gateway: GatewayProcess, stream: str, add: Add, db: redis.Redis
) -> None:
    add("1-0", "2-0", type_="sms.sent")
    for n, data in enumerate(
        ['"é\u2028\u2029\x85"', "not json\r\n\r\nid: 9-9\r\n\r\n", '{"a":\n1}', '"\U0001f600"'], start=3
    ):
        db.xadd(stream, {"type": "a.b", "data": data}, id=f"{n}-0")
    db.xadd(stream, {"type": "a.b"}, id="9-0")
    async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
        await opened.told("caught-up")
        text = bytes(opened.body)
    pieces = parse(*(bytes([byte]) for byte in text))
    assert pieces.messages == opened.messages
    assert len(opened.events) == 6 and opened.position == "9-0"
    # Whatever is cut off, nobody takes a part of a block for a block, nor an id without its event.
    for at in range(len(text)):
        cut = parse(text[:at])
        assert cut.messages == opened.messages[: len(cut.messages)]
        assert cut.last_event_id == (cut.messages[-1].last_event_id if cut.messages else "")
        assert cut.empty_blocks == 0
