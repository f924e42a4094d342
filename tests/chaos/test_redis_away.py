"""While Redis is away: no busy loop, no flood of log lines, clear answers; and back at once when it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import GatewayProcess, Lane
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., GatewayProcess]


@pytest.fixture
def server(tmp_path: Path) -> RedisServer:  # type: ignore[misc]
    server = RedisServer("valkey", tmp_path / "aof", fsync="always").start()
    yield server  # type: ignore[misc]
    server.thaw()
    server.stop()


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_quiet_while_away_and_back_at_once(
    server: RedisServer, start_gateway: Start, lane: Lane, how: str
) -> None:
    gateway = start_gateway(server.url, lane, streams=["events", "b", "c"], window_events=2)
    with server.client() as client:
        for n in range(1, 30):
            client.xadd("events", {"type": "a.b", "data": str(n)}, id=f"{n}-0")
    live = [await subscribe(gateway.url, {"stream": "events,b,c"}) for _ in range(20)]
    for one in live:
        await one.told("caught-up")
    lines = len(gateway.log_text().splitlines())
    server.kill() if how == "killed" else server.freeze()
    began, cpu = time.monotonic(), gateway.child.cpu_seconds()
    # The measure is CPU per second, so seconds must pass; many of them make it steady.
    await asyncio.sleep(6)
    away = time.monotonic() - began
    assert gateway.child.cpu_seconds() - cpu < 0.1 * away
    await asyncio.to_thread(server.start) if how == "killed" else server.thaw()
    with server.client() as client:
        back = time.monotonic()
        client.xadd("events", {"type": "a.b", "data": "30"}, id="30-0")
    for one in live:
        await one.has(1)
    assert time.monotonic() - back < 2.0

    def said() -> list[str]:
        return [" ".join(line.split()[2:6]) for line in gateway.log_text().splitlines()[lines:]]

    def regained() -> bool:
        return sum("redis.regained" in fact for fact in said()) == sum("redis.lost" in fact for fact in said())

    await wait_until(regained, "each stream that was lost is back")
    # One line for each fact: what it is (the time left out), and the stream that it is about.
    assert set(Counter(said()).values()) == {1}, said()
    for one in live:
        assert one.controls("gap") == [] and not one.closed.is_set()
        one.reset()
        await one.until_closed()


async def test_answers_while_away(server: RedisServer, start_gateway: Start, lane: Lane) -> None:
    gateway = start_gateway(server.url, lane, window_events=2)
    event = {"type": "a.b", "data": 1}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        await http.post("/api/events", json=[event] * 9)
        first = (await http.get("/api/events", headers={"Accept": "application/json"})).json()["events"][0]["id"]
        server.kill()
        answers = [
            await http.post("/api/events", json=event),
            await http.post("/api/events", json=[event, event]),
            await http.get("/api/events", headers={"Accept": "application/json"}),
            await http.get("/api/events", params={"since": "earliest"}),
            await http.get("/api/events", params={"last": "5"}),
            await http.get("/api/events", headers={"Last-Event-ID": first}),
        ]
        for answer in answers:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            assert "Traceback" not in answer.text and str(server.port) not in answer.text
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        await asyncio.to_thread(server.start)
        assert (await http.post("/api/events", json=event)).status_code == 201
        await wait_until(lambda: _ready(http), "ready again")
    with server.client() as client:
        assert client.xlen("events") == 10


async def _ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


async def test_publish_to_a_frozen_redis_is_stored_once_with_an_idempotency_key(
    server: RedisServer, start_gateway: Start
) -> None:
    """The answer is 503 although Redis may take the events later; the same key then answers their ids."""
    gateway = start_gateway(server.url, publish_timeout=0.5)
    batch = [{"type": "a.b", "data": n} for n in range(5)]
    headers = {"Idempotency-Key": "one"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as http:
        assert (await http.post("/api/events", json=batch)).status_code == 201
        server.freeze()
        late = [await http.post("/api/events", json=batch, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in late] == [503, 503, 503]
        server.thaw()
        taken = await http.post("/api/events", json=batch, headers=headers)
        assert taken.status_code == 201, taken.text
        # The connections that were given up must not hand their late answers to others.
        others = await asyncio.gather(*(http.post("/api/events", json={"type": "x", "data": n}) for n in range(40)))
        added = [answer.json()["ids"][0] for answer in others]
        assert len(set(added)) == 40
    with server.client() as client:
        log = {raw_id.decode(): fields for raw_id, fields in client.xrange("events")}
    assert len(log) == 5 + 5 + 40
    assert [json.loads(log[event_id][b"data"]) for event_id in taken.json()["ids"]] == [0, 1, 2, 3, 4]
    assert [json.loads(log[event_id][b"data"]) for event_id in added] == list(range(40))


async def test_replay_is_cut_by_an_outage_and_goes_on(server: RedisServer, start_gateway: Start, lane: Lane) -> None:
    """Readers in the middle of a long replay from Redis wait, and lose nothing."""
    gateway = start_gateway(server.url, lane, window_events=10)
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for n in range(1, 6001):
            pipe.xadd("events", {"type": "a.b", "data": '"' + "x" * 500 + '"'}, id=f"{n}-0")
        pipe.execute()
    readers: list[EventStream] = []
    for _ in range(5):
        one = await subscribe(gateway.url, {"since": "earliest"}, receive_buffer=4096)
        one.stall()
        readers.append(one)
    server.kill()
    for one in readers:
        one.go_on()
    await asyncio.to_thread(server.start)
    for one in readers:
        await one.has(6000)
        assert [json.loads(message.data)["id"] for message in one.events] == [f"{n}-0" for n in range(1, 6001)]
        assert one.controls("gap") == []
        one.reset()
        await one.until_closed()
