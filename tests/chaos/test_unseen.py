"""Entries that came and went before anybody read them."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.sseclient import subscribe

Start = Callable[..., GatewayProcess]


async def test_a_refused_batch_is_no_gap(valkey: RedisServer, start_gateway: Start, stream: str) -> None:
    gateway = start_gateway(valkey.url)
    async with valkey.aclient() as db, httpx.AsyncClient(base_url=gateway.url) as http:
        await db.xadd(stream, {"type": "a", "data": "1"})
        await db.set(f"{stream}.text", "no stream", ex=60)
        async with await subscribe(gateway.url, {"stream": stream}) as reader:
            await reader.told("caught-up")
            batch = [
                {"type": "a", "data": 2, "stream": stream},
                {"type": "a", "data": 3, "stream": f"{stream}.text"},
            ]
            assert (await http.post("/api/events", json=batch)).status_code == 409
            assert (await http.post("/api/events", json={"type": "a.last", "data": 4, "stream": stream})).is_success
            await reader.has(1)
            assert [json.loads(event.data)["data"] for event in reader.events] == [4]
            assert reader.controls("gap") == []


async def test_a_position_whose_entry_nobody_read(valkey: RedisServer, start_gateway: Start, stream: str) -> None:
    gateway = start_gateway(valkey.url)
    async with valkey.aclient() as db:
        await db.xadd(stream, {"type": "a", "data": "1"}, id="5-0")
        async with await subscribe(gateway.url, {"stream": stream}) as early:
            await early.told("caught-up")
            async with db.pipeline(transaction=True) as pipe:
                pipe.xadd(stream, {"type": "a", "data": "2"}, id="6-0").xdel(stream, "6-0")
                await pipe.execute()
            async with await subscribe(gateway.url, {"stream": stream, "last_event_id": "6-0"}) as reader:
                await reader.told("caught-up")
