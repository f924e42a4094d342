"""What the gateway itself says on a stream: caught-up, position, skipped; and what it must not say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
import redis

from tests.sse.conftest import Add, ids
from tests.support.bulk import fill
from tests.support.gateway import GatewayProcess, Lane
from tests.support.redisserver import command_calls
from tests.support.sseclient import subscribe
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]


@pytest.fixture
def quick(lane: Lane, shared_gateway: Start) -> GatewayProcess:
    """A gateway that says something after 0.2 s of silence instead of 15 s."""
    return shared_gateway(lane, heartbeat=0.2)


async def test_opening(gateway: GatewayProcess, stream: str, add: Add) -> None:
    add("1-0")
    delays = set()
    for _ in range(8):
        async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
            await opened.told("caught-up")
            assert re.fullmatch(rb"retry: \d+\n:[^\n]*\n", opened.writes[0])
            assert len(opened.writes[0]) < 512
            assert opened.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert opened.headers["cache-control"] == "no-store, no-transform"
            assert opened.headers["x-accel-buffering"] == "no"
            assert "connection" not in opened.headers
            delays.add(opened.parser.reconnection_ms)
    assert all(delay is not None and 2400 <= delay <= 3600 for delay in delays)
    assert len(delays) > 1


async def test_frames_are_spelled_exactly(gateway: GatewayProcess, stream: str, add: Add) -> None:
    """``event``, ``data``, ``id`` in this order: a client that takes the id first loses an event to a cut between."""
    add("1735732800000-0", type_="sms.sent", tenant="cust_1", channel="x/y")
    head = f'{{"id":"1735732800000-0","stream":"{stream}","channel":"x/y","type":"sms.sent"'
    data = f'{head},"time":"2025-01-01T12:00:00.000Z","tenant":"cust_1","data":"1735732800000-0"}}'
    block = f"data: {data}\nid: 1735732800000-0\n\n"
    for query, frame in (({}, "event: sms.sent\n" + block), ({"named": "false"}, block)):
        async with await subscribe(gateway.url, {"stream": stream, "since": "earliest", **query}) as opened:
            await opened.told("caught-up")
            assert frame.encode() in bytes(opened.body)
            caught_up = b'event: gateway.caught-up\ndata: {"position":"1735732800000-0","replayed":1}\n'
            assert caught_up + b"id: 1735732800000-0\n\n" in bytes(opened.body)
            assert b"\r" not in opened.body


async def test_control_events_can_be_left_out(quick: GatewayProcess, stream: str, add: Add, db: redis.Redis) -> None:
    add("1-0")
    db.xadd(stream, {"type": "a b", "data": "1"})
    async with await subscribe(quick.url, {"stream": stream, "since": "earliest", "control": "false"}) as opened:
        await opened.has(1)
        await wait_until(lambda: len(opened.parser.comments) > 1, "a heartbeat")
        assert opened.names == ["a.b"]


async def test_heartbeats_are_bare_comments(quick: GatewayProcess, stream: str) -> None:
    async with await subscribe(quick.url, {"stream": stream}) as opened:
        await opened.told("caught-up")
        await wait_until(lambda: len(opened.parser.comments) > 3, "three heartbeats")
        assert set(opened.writes[2:]) == {b":\n"}
        assert opened.parser.empty_blocks == 0


async def test_a_rare_filter_is_moved_on(quick: GatewayProcess, stream: str, db: redis.Redis, add: Add) -> None:
    pipe = db.pipeline(transaction=False)
    async with await subscribe(quick.url, {"stream": stream, "type": "rare"}) as opened:
        await opened.told("caught-up")
        for n in range(1, 100):
            pipe.xadd(stream, {"type": "noise", "data": "1"}, id=f"{n}-0")
        pipe.execute()
        heard = len(opened.parser.comments)
        await wait_until(lambda: len(opened.parser.comments) > heard + 2, "heartbeats after 99 events")
        assert opened.controls("position") == []
        add("100-0", type_="noise")
        assert await opened.told("position") == {"position": "100-0"}
        assert opened.position == "100-0"
        heard = len(opened.parser.comments)
        await wait_until(lambda: len(opened.parser.comments) > heard + 2, "heartbeats after it")
        assert len(opened.controls("position")) == 1


async def test_resuming_after_100_000_events_of_others_costs_no_scan(
    quick: GatewayProcess, stream: str, db: redis.Redis
) -> None:
    async with await subscribe(quick.url, {"stream": stream, "type": "rare"}) as opened:
        await opened.told("caught-up")
        fill(db, stream, 1, 100_000)
        await wait_until(lambda: opened.position == "100000-0", lambda: f"moved on, at {opened.position}")
        assert opened.events == []
    before = command_calls(db)
    async with await subscribe(quick.url, {"stream": stream, "type": "rare"}, last_event_id=opened.position) as again:
        told = await again.told("caught-up")
        assert told == {"position": "100000-0", "replayed": 0}
        assert again.controls("gap") == []
        after = command_calls(db)
        assert after.get("xrange", 0) == before.get("xrange", 0)
        assert after.get("xrevrange", 0) == before.get("xrevrange", 0)
        db.xadd(stream, {"type": "rare", "data": "1"}, id="100001-0")
        await again.has(1)
        assert ids(again) == ["100001-0"]


SKIPPED = [
    ({"data": "1"}, "missing_type"),
    ({"type": "a b", "data": "1"}, "invalid_type"),
    ({"type": "gateway.x", "data": "1"}, "reserved"),
    ({"type": "a.b"}, "missing_data"),
    ({"type": "a.b", "data": b"\xff"}, "invalid_data"),
    ({"type": "a.b", "data": "1", "channel": "x\ny"}, "invalid_channel"),
    ({"type": "a.b", "data": "1", "tenant": ""}, "invalid_tenant"),
    ({"type": "a.b", "data": "1", "time": "yesterday"}, "invalid_time"),
    ({"type": "a.b", "data": "1", "webhook_url": "ftp://h/"}, "invalid_webhook_url"),
]


async def test_skipped_entries_are_told(gateway: GatewayProcess, stream: str, db: redis.Redis, add: Add) -> None:
    for n, (fields, _) in enumerate(SKIPPED, start=1):
        db.xadd(stream, fields, id=f"{n}-0")  # type: ignore[arg-type]
    async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
        await opened.told("caught-up")
        told = [json.loads(message.data) for message in opened.controls("skipped")]
        assert told == [
            {"stream": stream, "id": f"{n}-0", "reason": reason} for n, (_, reason) in enumerate(SKIPPED, start=1)
        ]
        assert [message.last_event_id for message in opened.controls("skipped")] == [t["id"] for t in told]
        # and live
        db.xadd(stream, {"type": "a.b"}, id="50-0")
        add("51-0")
        await opened.has(1)
        assert opened.names[-2:] == ["gateway.skipped", "a.b"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({}, ["1-0", "2-0", "3-0", "4-0"]),
        ({"type": "a.*"}, ["1-0", "3-0", "4-0"]),
        ({"type": "z"}, ["3-0", "4-0"]),
        ({"channel": "a"}, ["1-0", "4-0"]),
        ({"channel": "c"}, ["3-0", "4-0"]),
        ({"channel": "q"}, ["4-0"]),
    ],
    ids=str,
)
async def test_who_is_told_of_a_skipped_entry(
    gateway: GatewayProcess, stream: str, db: redis.Redis, query: dict[str, str], told: list[str]
) -> None:
    """Those whose filter could have matched: what cannot be read of the entry counts as a match."""
    db.xadd(stream, {"type": "a.b"}, id="1-0")
    db.xadd(stream, {"type": "v.w"}, id="2-0")
    db.xadd(stream, {"data": "1", "channel": "c"}, id="3-0")
    db.xadd(stream, {"data": "1"}, id="4-0")
    async with await subscribe(gateway.url, {"stream": stream, "since": "earliest", **query}) as opened:
        await opened.told("caught-up")
        assert [json.loads(message.data)["id"] for message in opened.controls("skipped")] == told


async def test_no_bytes_of_users_can_forge_a_frame(gateway: GatewayProcess, stream: str, db: redis.Redis) -> None:
    evil = ["\n\nevent: forged\ndata: 1\n\n", "\r\revent: forged\rdata: 1\r\r", "\0", "a\u2028b", "\x85", "\ufeff"]
    for n, text in enumerate(evil):
        db.xadd(stream, {"type": "a.b", "data": text})
        db.xadd(stream, {"type": f"x{text}", "data": "1"})
        db.xadd(stream, {"type": "a.b", "data": json.dumps(n), "channel": f"x{text}"})
        db.xadd(stream, {"type": "a.b", "data": f'{{"k":{text.translate({0: None}).split("event")[0]} 1}}'})
    async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
        await opened.told("caught-up")
        assert set(opened.names) <= {"a.b", "gateway.skipped", "gateway.caught-up"}
        texts = [data for m in opened.events if isinstance(data := json.loads(m.data)["data"], str)]
        assert texts[: len(evil)] != []
        assert set(evil) <= set(texts)
        assert opened.parser.empty_blocks == 0
        assert b"\r" not in opened.body and b"\0" not in opened.body
