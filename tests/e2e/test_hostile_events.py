"""What a publisher may throw in, by XADD and over HTTP: it is carried, or refused, and forges nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.problem import check_problem
from tests.e2e.support.wire import Answer, Wire, ask, subscribed
from tests.support.whatwg import EventSourceParser, Message

pytestmark = pytest.mark.usefixtures("unharmed")

MIB = 1 << 20
FORGED = b"x\r\nid: 9-9\r\nevent: forged\r\ndata: forged\r\n\r\n"


def messages_after(gateway: GatewayProcess, tail: str, last: str) -> list[Message]:
    """What a subscriber from `tail` gets up to the event or control event with id `last`."""
    parser = EventSourceParser()
    with subscribed(gateway.port, f"/api/events?since={tail}") as (wire, _head):
        while not any(message.last_event_id == last for message in parser.messages):
            parser.feed(_strict(wire))
    assert parser.empty_blocks == 0
    return [message for message in parser.messages if message.type != "gateway.caught-up"]


def _strict(wire: Wire) -> bytes:
    chunk = wire.chunk()
    assert b"\r" not in chunk
    assert b"\0" not in chunk
    return chunk


SKIPPED: dict[str, tuple[dict[Any, Any], str]] = {
    "no type": ({"data": "1"}, "missing_type"),
    "no data": ({"type": "sms.sent"}, "missing_data"),
    "a forged frame in the type": ({"type": FORGED, "data": "1"}, "invalid_type"),
    "a NUL in the type": ({"type": b"sms\0", "data": "1"}, "invalid_type"),
    "a line break at the end of the type": ({"type": b"sms.sent\n", "data": "1"}, "invalid_type"),
    "a type that is not ASCII": ({"type": "sms.sént", "data": "1"}, "invalid_type"),
    "a type of 1 MiB": ({"type": "x" * MIB, "data": "1"}, "invalid_type"),
    "an empty type": ({"type": "", "data": "1"}, "invalid_type"),
    "a type of the gateway's own": ({"type": "gateway.closing", "data": "{}"}, "reserved"),
    "a forged frame in the channel": ({"type": "sms.sent", "data": "1", "channel": FORGED}, "invalid_channel"),
    "a quote in the channel": ({"type": "sms.sent", "data": "1", "channel": 'a","x":"'}, "invalid_channel"),
    "a channel of 1 MiB": ({"type": "sms.sent", "data": "1", "channel": "c" * MIB}, "invalid_channel"),
    "a forged frame in the tenant": ({"type": "sms.sent", "data": "1", "tenant": FORGED}, "invalid_tenant"),
    "an empty tenant": ({"type": "sms.sent", "data": "1", "tenant": ""}, "invalid_tenant"),
    "a forged frame in the time": ({"type": "sms.sent", "data": "1", "time": FORGED}, "invalid_time"),
    "a time with a line break": ({"type": "sms.sent", "data": "1", "time": "2025-01-01T12:00:00Z\n"}, "invalid_time"),
    "a URL with a line break": (
        {"type": "sms.sent", "data": "1", "webhook_url": "https://example.com/\r\nX: 1"},
        "invalid_webhook_url",
    ),
    "data that is not UTF-8": ({"type": "sms.sent", "data": b"\xff\xfe\0"}, "invalid_data"),
    "data cut inside a character": ({"type": "sms.sent", "data": '"ü"'.encode()[:2]}, "invalid_data"),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_an_entry_that_breaks_a_rule_is_skipped_and_said(gateway: GatewayProcess, broker: Broker, case: str) -> None:
    entry, reason = SKIPPED[case]
    tail = broker.add("sms.sent", 1)
    bad = broker.raw_add(entry)
    last = broker.add("sms.sent", 2)
    skipped, event = messages_after(gateway, tail, last)
    assert (skipped.type, skipped.last_event_id) == ("gateway.skipped", bad)
    assert json.loads(skipped.data) == {"stream": "events", "id": bad, "reason": reason}
    assert (event.type, event.last_event_id) == ("sms.sent", last)


TEXT = {
    "a forged frame": FORGED.decode(),
    "NULs": "\0" * 10,
    "half of JSON": '{"a":',
    "two values": "1 2",
    "NaN": "NaN",
    "a BOM": "\ufeff{}",
    "nothing": "",
    "separators": "\u2028\u2029\x85",
    "1 MiB": "ü" * (MIB // 2),
    "deep": "[" * 100_000,
    "deep and closed": "[" * 100_000 + "]" * 100_000,
    "script": "</script><script>alert(1)</script>",
}


@pytest.mark.parametrize("case", TEXT)
def test_text_that_is_not_json_arrives_as_a_string(gateway: GatewayProcess, broker: Broker, case: str) -> None:
    tail = broker.add("sms.sent", 1)
    last = broker.raw_add({"type": "sms.sent", "data": TEXT[case]})
    (event,) = messages_after(gateway, tail, last)
    assert json.loads(event.data)["data"] == TEXT[case]


JSON_TEXTS = [
    "1e999",
    "-0.0",
    "123456789012345678901234567890",
    '"\\ud800"',
    '"\\u0000"',
    '{"a":1,"a":2}',
    '{\r\n "a" :\t1 ,\n"b":[ ]\r}',
    " 1 ",
    '"' + "x" * MIB + '"',
    "[" * 500 + "]" * 500,
    '"data: x\\n\\nevent: forged"',
]


@pytest.mark.parametrize("text", JSON_TEXTS, ids=lambda text: repr(text[:20]))
def test_json_arrives_as_it_was_written(gateway: GatewayProcess, broker: Broker, text: str) -> None:
    tail = broker.add("sms.sent", 1)
    last = broker.raw_add({"type": "sms.sent", "data": text})
    (event,) = messages_after(gateway, tail, last)
    payload = re.sub("[\r\n]", "", text)
    assert event.data.endswith(f'"data":{payload}}}')


def test_many_fields_and_odd_names_are_passed_over(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    entry: dict[Any, Any] = {f"field{number}": "x" for number in range(20_000)}
    entry |= {b"\xff\0\r\n": b"\xff", "": "", "type": "sms.sent", "data": "1"}
    last = broker.raw_add(entry)
    (event,) = messages_after(gateway, tail, last)
    assert list(json.loads(event.data)) == ["id", "stream", "channel", "type", "time", "data"]


def post(gateway: GatewayProcess, body: bytes, *headers: str, media: str = "application/json") -> Answer:
    """POST /api/events."""
    return ask(gateway.port, "POST", "/api/events", f"Content-Type: {media}", *headers, body=body)


REFUSED: dict[str, tuple[bytes, int]] = {
    "nothing but blanks": (b" " * 1000, 422),
    "half of JSON": (b'{"type":', 422),
    "an empty array": (b"[]", 422),
    "null": (b"null", 422),
    "a string": (b'"sms.sent"', 422),
    "arrays in arrays": (b"[" * 100_000 + b"]" * 100_000, 422),
    "objects in objects": (b'{"a":' * 50_000, 422),
    "numbers": (b"[" + b"1," * 100_000 + b"1]", 422),
    "deep data": (b'{"type":"a","data":' + b"[" * 5000 + b"]" * 5000 + b"}", 422),
    "not UTF-8": (b'{"type":"sms.sent","data":"\xff"}', 422),
    "UTF-16": ('{"type":"sms.sent","data":1}'.encode("utf-16"), 422),
    "a BOM": (b'\xef\xbb\xbf{"type":"sms.sent","data":1}', 422),
    "two bodies": (b'{"type":"sms.sent","data":1}{"type":"sms.sent","data":1}', 422),
    "no type": (b'{"data":1}', 422),
    "no data": (b'{"type":"sms.sent"}', 422),
    "an unknown field": (b'{"type":"sms.sent","data":1,"id":"1-0"}', 422),
    "a long unknown field": (b'{"type":"sms.sent","data":1,"%b":1}' % (b"x" * 100_000), 422),
    "a field twice": (b'{"type":"sms.sent","data":1,"data":2}', 422),
    "a type that is a number": (b'{"type":1,"data":1}', 422),
    "a line break in the type": (b'{"type":"sms.sent\\r\\nid: 9-9","data":1}', 422),
    "a NUL in the type": (b'{"type":"sms.sent\\u0000","data":1}', 422),
    "half a character in the type": (b'{"type":"\\ud800","data":1}', 422),
    "a type of the gateway's own": (b'{"type":"gateway.closing","data":1}', 422),
    "a line break in the channel": (b'{"type":"a","data":1,"channel":"a\\nb"}', 422),
    "a tenant with a quote": (b'{"type":"a","data":1,"tenant":"\\""}', 422),
    "a bad time": (b'{"type":"a","data":1,"time":"yesterday"}', 422),
    "a stream that is not served": (b'{"type":"a","data":1,"stream":"gateway:ops"}', 403),
    "a stream that is none": (b'{"type":"a","data":1,"stream":"../../etc"}', 422),
    "a URL that is none": (b'{"type":"a","data":1,"webhook_url":"javascript:alert(1)"}', 422),
    "a URL with a line break": (b'{"type":"a","data":1,"webhook_url":"https://x/\\r\\nX-A: 1"}', 422),
    "one bad of three": (b'[{"type":"a","data":1},{"type":"a","data":1},{"type":"","data":1}]', 422),
    "an event too large": (b'{"type":"a","data":"%b"}' % (b"x" * (257 << 10)), 413),
    "an event too large in bytes": (b'{"type":"a","data":"%b"}' % ("🙂" * (65 << 10)).encode(), 413),
    "a body too large": (b" " * (MIB + 1), 413),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_publish_stores_nothing(gateway: GatewayProcess, broker: Broker, case: str) -> None:
    body, status = REFUSED[case]
    before = broker.length()
    problem = check_problem(post(gateway, body), status)
    assert len(problem.get("errors", [])) <= 40
    assert broker.length() == before


@pytest.mark.parametrize(
    "media",
    ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "x" * 5000, "a/b;;;"],
)
def test_other_media_types(gateway: GatewayProcess, broker: Broker, media: str) -> None:
    before = broker.length()
    check_problem(post(gateway, b'{"type":"sms.sent","data":1}', media=media), 415)
    assert broker.length() == before


def test_a_compressed_body_is_not_taken_for_text(gateway: GatewayProcess) -> None:
    check_problem(post(gateway, b"\x1f\x8b\x08\0\0", "Content-Encoding: gzip"), 415, 422)


@pytest.mark.parametrize("key", ["", "a\x7fb", "k" * 256, "\u00ff", "a\tb"])
def test_bad_idempotency_keys(gateway: GatewayProcess, broker: Broker, key: str) -> None:
    before = broker.length()
    answer = post(gateway, b'{"type":"sms.sent","data":1}', f"Idempotency-Key: {key}")
    if answer.head.get("content-type") == "application/problem+json":
        check_problem(answer, 400)
    assert answer.status == 400
    assert broker.length() == before


def test_lines_end_in_newlines_only(gateway: GatewayProcess, broker: Broker) -> None:
    lines = '{"type":"a.b","data":"\u2028"}\r\n\n{"type":"a.b","data":"\x85"}'.encode()
    answer = post(gateway, lines, media="application/x-ndjson; charset=utf-8")
    assert answer.status == 201
    assert len(answer.json()["ids"]) == 2
    bad = post(gateway, b'{"type":"a.b","data":1}\n{"type":"a.b"}\n', media="application/x-ndjson")
    assert check_problem(bad, 422)["errors"][0]["field"] == "[1].data"


def test_more_events_than_a_request_may_carry(gateway: GatewayProcess, broker: Broker) -> None:
    before = broker.length()
    check_problem(post(gateway, b"[" + b",".join([b'{"type":"a","data":1}'] * 10_001) + b"]"), 413)
    assert broker.length() == before


def test_a_batch_of_ten_thousand_is_stored_in_order(gateway: GatewayProcess, broker: Broker) -> None:
    tail = broker.add("sms.sent", 1)
    body = json.dumps([{"type": "a", "data": number} for number in range(10_000)]).encode()
    answer = post(gateway, body)
    assert answer.status == 201
    ids = answer.json()["ids"]
    stored = broker.client.xrange("events", f"({tail}", "+")
    assert [entry_id.decode() for entry_id, _ in stored] == ids
    assert [int(fields[b"data"]) for _, fields in stored] == list(range(10_000))


def test_no_log_line_can_be_forged(gateway: GatewayProcess, broker: Broker) -> None:
    mark = "FORGED-LINE"
    text = f"a%0d%0a2026-01-01 ERROR {mark}".replace(" ", "%20")
    ask(gateway.port, "GET", f"/{text}")
    ask(gateway.port, "GET", f"/api/events?{text}=1")
    ask(gateway.port, "GET", f"/api/events?last_event_id={text}")
    post(gateway, json.dumps({"type": f"\n{mark}", "data": f"\n{mark}"}).encode(), f"Idempotency-Key: {mark}")
    broker.raw_add({"type": f"x\n{mark}", "data": "1", "tenant": f"\n{mark}"})
    broker.add("sms.sent", f"\n{mark}")
    assert not re.search(f"^[^\n]*{mark}", gateway.log(), re.MULTILINE)
