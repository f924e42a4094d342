"""For any payload: the bytes on the wire, read whole and byte by byte, are the messages that were published."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli.eventstream import EventStream
from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import ask, subscribed
from tests.support.whatwg import EventSourceParser, Message

NASTY = ["\r", "\n", "\r\n", "\0", "\ufeff", "\u2028", "\u0085", ":", "data: ", "\n\n", "id: 9-9", "\\", '"', "🙂", " "]
texts = st.text() | st.lists(st.sampled_from(NASTY)).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
SPELLINGS: list[dict[str, Any]] = [
    {},
    {"indent": 1},
    {"ensure_ascii": False},
    {"separators": (" ,\r\n", "\t:\r")},
    {"sort_keys": True, "indent": "\t"},
]
spellings = st.sampled_from(SPELLINGS)
FORMATS = ["native", "raw", "trunx", "truedy", "telnyx", "tryvox", "cloudevents"]


def spell(value: Any, how: dict[str, Any]) -> bytes:
    """`value` as JSON text. A lone surrogate has no UTF-8: it is spelled with a backslash."""
    try:
        return json.dumps(value, **how).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def read_bytes(gateway: GatewayProcess, query: str, last: str) -> bytes:
    """The body of a subscription, up to and with the frame of event `last`."""
    body = b""
    with subscribed(gateway.port, f"/api/events?control=false&{query}") as (wire, _head):
        while f"id: {last}\n\n".encode() not in body:
            body += wire.chunk()
    return body


def read_both_ways(body: bytes) -> list[Message]:
    """The messages by the reference, which must not depend on how the bytes are cut; our own client agrees."""
    whole, piecewise, ours = EventSourceParser(), EventSourceParser(), EventStream()
    whole.feed(body)
    for at in range(len(body)):
        piecewise.feed(body[at : at + 1])
    assert piecewise.messages == whole.messages
    assert whole.empty_blocks == 0
    assert [tuple(event) for event in ours.feed(body)] == [tuple(message) for message in whole.messages]
    return whole.messages


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.tuples(values, spellings), min_size=1, max_size=5), named=st.booleans())
def test_bytes_are_what_was_published(
    gateway: GatewayProcess, broker: Broker, format_: str, payloads: list[tuple[Any, dict[str, Any]]], named: bool
) -> None:
    tail = broker.add("sms.sent")
    ids = [broker.raw_add({"type": "sms.sent", "data": spell(*payload)}) for payload in payloads]
    body = read_bytes(gateway, f"since={tail}&format={format_}&named={str(named).lower()}", ids[-1])
    messages = read_both_ways(body)
    assert [message.last_event_id for message in messages] == ids
    assert {message.type for message in messages} == {"sms.sent" if named else "message"}
    if format_ == "raw":
        assert [json.loads(message.data) for message in messages] == [value for value, _ in payloads]
    elif format_ in ("native", "truedy", "cloudevents"):
        assert [json.loads(message.data)["data"] for message in messages] == [value for value, _ in payloads]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary() | texts.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_by_xadd_are_an_event_or_skipped(gateway: GatewayProcess, broker: Broker, data: bytes) -> None:
    tail = broker.add("sms.sent")
    broker.raw_add({"type": "sms.sent", "data": data})
    last = broker.add("sms.end")
    messages = read_both_ways(read_bytes(gateway, f"since={tail}&format=raw", last))
    assert messages[-1].data == "null"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        assert len(messages) == 1
        return
    arrived = json.loads(messages[0].data)
    assert arrived == text or arrived == json.loads(text)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(values, min_size=1, max_size=4), pretty=st.booleans())
def test_over_http_likewise(gateway: GatewayProcess, broker: Broker, payloads: list[Any], pretty: bool) -> None:
    tail = broker.add("sms.sent")
    body = json.dumps([{"type": "a.b", "data": value} for value in payloads], indent=1 if pretty else None).encode()
    answer = ask(gateway.port, "POST", "/api/events", "Content-Type: application/json", body=body)
    assert answer.status == 201
    ids = answer.json()["ids"]
    messages = read_both_ways(read_bytes(gateway, f"since={tail}", ids[-1]))
    assert [message.last_event_id for message in messages] == ids
    assert [json.loads(message.data)["data"] for message in messages] == payloads
