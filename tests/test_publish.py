"""``POST /api/events``: all or nothing, once per idempotency key, every payload as it was written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import redis

from tests.support.gateway import GatewayProcess
from tests.support.sseclient import subscribe

EVENTS = "/api/events"


@pytest.fixture
def gateway(shared_gateway: Callable[..., GatewayProcess]) -> GatewayProcess:
    return shared_gateway("direct")


@pytest.fixture
async def http(gateway: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        yield client


def stored(db: redis.Redis, stream: str) -> list[tuple[str, dict[str, str]]]:
    return [
        (raw_id.decode(), {name.decode(): value.decode() for name, value in fields.items()})
        for raw_id, fields in db.xrange(stream)
    ]


async def test_one_event(http: httpx.AsyncClient, db: redis.Redis, stream: str) -> None:
    event = {"type": "sms.sent", "data": {"a": 1}, "channel": "c", "tenant": "t", "time": "2025-01-01T00:00:00Z"}
    answer = await http.post(EVENTS, json={**event, "stream": stream})
    assert answer.status_code == 201
    ((event_id, fields),) = stored(db, stream)
    assert answer.json() == {"ids": [event_id]}
    assert json.loads(fields.pop("data")) == {"a": 1}
    assert fields == {name: value for name, value in event.items() if name != "data"}


async def test_a_batch_over_several_streams_keeps_its_order(
    http: httpx.AsyncClient, db: redis.Redis, stream: str
) -> None:
    other = stream + ".other"
    batch = [{"type": "a", "data": n, "stream": other if n % 3 == 0 else stream} for n in range(20)]
    ids = (await http.post(EVENTS, json=batch)).json()["ids"]
    found = {event_id: int(fields["data"]) for name in (stream, other) for event_id, fields in stored(db, name)}
    by_stream = {name: [fields["data"] for _, fields in stored(db, name)] for name in (stream, other)}
    assert len(ids) == 20
    assert by_stream[other] == [str(n) for n in range(0, 20, 3)]
    assert by_stream[stream] == [str(n) for n in range(20) if n % 3]
    assert set(ids) == set(found)


@pytest.mark.parametrize("media", ["application/x-ndjson", "application/ndjson", "application/x-ndjson; charset=utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
async def test_ndjson(http: httpx.AsyncClient, db: redis.Redis, stream: str, media: str, end: str) -> None:
    lines = end.join(json.dumps({"type": "a", "data": f"x\u2028{n}", "stream": stream}) for n in range(5)) + end
    answer = await http.post(EVENTS, content=lines.encode(), headers={"Content-Type": media})
    assert answer.status_code == 201, answer.text
    assert answer.json()["ids"] == [event_id for event_id, _ in stored(db, stream)]
    assert [json.loads(fields["data"]) for _, fields in stored(db, stream)] == [f"x\u2028{n}" for n in range(5)]


BAD: list[tuple[Any, str]] = [
    ({}, "type"),
    ({"type": "a"}, "data"),
    ({"type": "a b", "data": 1}, "type"),
    ({"type": None, "data": 1}, "type"),
    ({"type": 1, "data": 1}, "type"),
    ({"type": "x" * 129, "data": 1}, "type"),
    ({"type": "gateway.gap", "data": 1}, "type"),
    ({"type": "a", "data": 1, "channel": "a\nb"}, "channel"),
    ({"type": "a", "data": 1, "channel": ""}, "channel"),
    ({"type": "a", "data": 1, "tenant": 5}, "tenant"),
    ({"type": "a", "data": 1, "time": "now"}, "time"),
    ({"type": "a", "data": 1, "stream": "a b"}, "stream"),
    ({"type": "a", "data": 1, "webhook_url": "/x"}, "webhook_url"),
    ({"type": "a", "data": 1, "webhook_url": "https://h/é"}, "webhook_url"),
    ({"type": "a", "data": 1, "webhook_url": "https://h/\ud800"}, "webhook_url"),
    ({"type": "a", "data": 1, "extra": 1}, "extra"),
    ({"type": "a", "data": 1, "\ud800": 1}, ""),
    ({"type": "a", "data": 1, "\n": 1}, ""),
    (1, ""),
    ("x", ""),
    (None, ""),
]


@pytest.mark.parametrize(("bad", "field"), BAD, ids=[json.dumps(bad)[:60] for bad, _ in BAD])
async def test_a_bad_item_is_named_and_nothing_is_stored(
    http: httpx.AsyncClient, db: redis.Redis, stream: str, bad: Any, field: str
) -> None:
    good = {"type": "a", "data": 1, "stream": stream}
    headers = {"Content-Type": "application/json"}
    alone = await http.post(EVENTS, content=json.dumps(bad), headers=headers)
    batch = await http.post(EVENTS, content=json.dumps([good, bad, good]), headers=headers)
    for answer, path in ((alone, ""), (batch, "[1]")):
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        errors = answer.json()["errors"]
        assert all(error["field"].startswith(path) for error in errors)
        assert any(field in error["field"] for error in errors), errors
    assert db.xlen(stream) == 0


@pytest.mark.parametrize("name", ["elsewhere", "gateway:idempotency:x", "gateway:ops:x"])
async def test_streams_that_are_not_served(http: httpx.AsyncClient, db: redis.Redis, stream: str, name: str) -> None:
    batch = [{"type": "a", "data": 1, "stream": stream}, {"type": "a", "data": 1, "stream": name}]
    answer = await http.post(EVENTS, json=batch)
    assert answer.status_code in (403, 422), answer.text
    assert name in answer.json()["detail"]
    assert db.xlen(stream) == 0 and not db.exists(name)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[", b"[]", b"nonsense", b"[{}", b"\xff", b'{"type":"a","data":NaN}', b'{"type":"a","data":01}',
     b'{"type":"a","type":"b","data":1}', b'{"type":"a","data":1}{"type":"a","data":1}', b'{"type":"a","data":"\n"}',
     b'\xef\xbb\xbf{"type":"a","data":1}', b'{"type":"a","data":' + b"[" * 5000 + b"]" * 5000 + b"}", b"[" * 100_000],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
async def test_what_is_no_event(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_other_media_types_are_refused(http: httpx.AsyncClient) -> None:
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await http.post(EVENTS, content=b"{}", headers={"Content-Type": media})
        assert answer.status_code == 415


async def test_limits(http: httpx.AsyncClient, db: redis.Redis, stream: str) -> None:
    def event(size: int, character: str = "x") -> dict[str, Any]:
        return {"type": "a", "stream": stream, "data": character * size}

    assert (await http.post(EVENTS, json=event(250_000))).status_code == 201
    assert (await http.post(EVENTS, json=event(270_000))).status_code == 413
    # The limit is in bytes: these are four each.
    wide = json.dumps(event(100_000, "\U0001f600"), ensure_ascii=False).encode()
    assert (await http.post(EVENTS, content=wide, headers={"Content-Type": "application/json"})).status_code == 413
    assert (await http.post(EVENTS, json=[event(10), event(270_000)])).status_code == 413
    assert (await http.post(EVENTS, json=[event(200_000)] * 6)).status_code == 413
    assert (await http.post(EVENTS, json=[event(200_000)] * 5)).status_code == 201
    assert db.xlen(stream) == 6

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b" " * 100_000

    chunked = await http.post(EVENTS, content=unannounced(), headers={"Content-Type": "application/json"})
    assert chunked.status_code == 413
    assert db.xlen(stream) == 6


async def test_all_or_nothing_when_redis_refuses_the_second_stream(
    http: httpx.AsyncClient, db: redis.Redis, stream: str
) -> None:
    wrong, full = stream + ".text", stream + ".full"
    db.set(wrong, "x", ex=60)
    db.xadd(full, {"type": "a", "data": "1"}, id="18446744073709551615-18446744073709551615")
    for bad, status in ((wrong, 409), (full, None)):
        batch = [{"type": "a", "data": n, "stream": name} for n, name in enumerate([stream, stream, bad, stream])]
        answer = await http.post(EVENTS, json=batch, headers={"Idempotency-Key": f"{stream}{bad}"})
        assert answer.status_code == status or (status is None and 400 <= answer.status_code < 600)
        assert answer.headers["content-type"] == "application/problem+json"
        assert db.xlen(stream) == 0
    assert db.xlen(full) == 1
    # A refused batch used up neither the key nor the gap verdict of its stream: the same key may be tried again.
    again = await http.post(
        EVENTS, json={"type": "a", "data": 1, "stream": stream}, headers={"Idempotency-Key": f"{stream}{wrong}"}
    )
    assert again.status_code == 201


async def test_idempotency(http: httpx.AsyncClient, db: redis.Redis, stream: str) -> None:
    batch = [{"type": "a", "data": n, "stream": stream} for n in range(3)]
    key = {"Idempotency-Key": stream}
    answers = await asyncio.gather(*(http.post(EVENTS, json=batch, headers=key) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert {tuple(answer.json()["ids"]) for answer in answers} == {tuple(i for i, _ in stored(db, stream))}
    assert db.xlen(stream) == 3
    other = await http.post(EVENTS, json=batch, headers={"Idempotency-Key": stream + "2"})
    assert db.xlen(stream) == 6 and other.json() != answers[0].json()
    lives = [db.ttl(name) for name in db.scan_iter("gateway:idempotency:*")]
    assert lives and all(0 < seconds <= 86_400 for seconds in lives)


async def test_idempotency_of_a_large_batch(http: httpx.AsyncClient, db: redis.Redis, stream: str) -> None:
    batch = [{"type": "a", "data": n, "stream": stream} for n in range(5000)]
    key = {"Idempotency-Key": stream}
    first, second = [await http.post(EVENTS, json=batch, headers=key) for _ in range(2)]
    assert first.status_code == 201, first.text
    assert first.json() == second.json() == {"ids": [event_id for event_id, _ in stored(db, stream)]}
    assert [fields["data"] for _, fields in stored(db, stream)] == [str(n) for n in range(5000)]


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
async def test_bad_idempotency_keys(http: httpx.AsyncClient, db: redis.Redis, stream: str, key: str) -> None:
    answer = await http.post(
        EVENTS, json={"type": "a", "data": 1, "stream": stream}, headers={b"Idempotency-Key": key.encode("latin-1")}
    )
    assert answer.status_code == 400, answer.text
    assert db.xlen(stream) == 0


PAYLOADS = [
    "9007199254740993",
    "1.0",
    "1e400",
    "-0.0",
    "0.1e-7",
    "123456789012345678901234567890.123456789",
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\u00e9\\/\\u0000"',
    '"é😀"',
    '"\u2028\u2029\x85"',
    '{"b":1,"a":2,"":3}',
    '{"a":1,"a":{"a":2}}',
    "[ 1 , 2 ]",
    '"data: x"',
    "null",
    '""',
]


@pytest.mark.parametrize("way", ["http", "batch", "ndjson", "xadd"])
async def test_payloads_arrive_as_they_were_written(
    gateway: GatewayProcess, http: httpx.AsyncClient, db: redis.Redis, stream: str, way: str
) -> None:
    texts = [f'{{"type":"a.b","stream":"{stream}","data":{data}}}' for data in PAYLOADS]
    json_type, lines_type = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}
    async with await subscribe(gateway.url, {"stream": stream, "format": "raw"}) as opened:
        await opened.told("caught-up")
        if way == "http":
            for text in texts:
                assert (await http.post(EVENTS, content=text.encode(), headers=json_type)).status_code == 201
        elif way == "batch":
            body = "[" + ",\r\n".join(texts) + "]"
            assert (await http.post(EVENTS, content=body.encode(), headers=json_type)).status_code == 201
        elif way == "ndjson":
            assert (await http.post(EVENTS, content="\n".join(texts).encode(), headers=lines_type)).status_code == 201
        else:
            for data in PAYLOADS:
                db.xadd(stream, {"type": "a.b", "data": data})
        await opened.has(len(PAYLOADS))
        assert [message.data for message in opened.events] == PAYLOADS


async def test_json_over_several_lines_becomes_one(
    gateway: GatewayProcess, http: httpx.AsyncClient, stream: str
) -> None:
    body = f'{{"type":"a.b",\n"stream":"{stream}","data":{{\r\n  "a": [1,\n 2],\r "b": "x y"\n}}}}'
    assert (await http.post(EVENTS, content=body, headers={"Content-Type": "application/json"})).status_code == 201
    async with await subscribe(gateway.url, {"stream": stream, "format": "raw", "since": "earliest"}) as opened:
        await opened.has(1)
        assert opened.events[0].data == '{  "a": [1, 2], "b": "x y"}'


async def test_published_events_keep_the_rules_that_the_reader_has(
    gateway: GatewayProcess, http: httpx.AsyncClient, stream: str
) -> None:
    event = {"type": "a.b", "data": 1, "stream": stream, "webhook_url": "https://example.com/%C3%A9?x=1"}
    assert (await http.post(EVENTS, json=event)).status_code == 201
    async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
        await opened.told("caught-up")
        assert opened.names == ["a.b", "gateway.caught-up"]
        assert "webhook_url" not in opened.events[0].data
