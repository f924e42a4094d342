"""A reader is not stopped under one who is slow to catch up, and listens to nothing meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from gateway.backend.connection import connect
from gateway.events.filter import EVERYTHING
from gateway.events.position import EventId
from gateway.sse.hub import Hub
from gateway.sse.request import After, EventsRequest
from gateway.sse.subscriber import Timing
from gateway.stream.log import Limits, Log
from gateway.stream.store import Store
from tests.engine.test_sweep import Quiet
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until


async def test_a_slow_reader_keeps_its_stream(valkey: RedisServer, stream: str) -> None:
    now = 0.0
    written: list[bytes] = []
    clients = [connect(valkey.url) for _ in range(2)]
    store = Store(clients[0])
    log = Log(store, lambda: Store(clients[1]), ("t.*",), Limits(), cast(Any, Quiet()), lambda: now, lambda: 0.5)
    hub = Hub(log, timing=Timing(1e9, 3, lambda: now, lambda: 0.5), meter=cast(Any, Quiet()), write_timeout=60)
    try:
        await store.append([(stream, {"type": b"a", "data": b"1"})])
        request = EventsRequest(
            "sse", (stream,), EVERYTHING, "native", True, After({stream: EventId(1)}), True, True, 100
        )
        slow = await hub.open(request)

        def write(data: bytes) -> None:
            written.append(data)
            slow.on_paused()

        hub.adopt(
            slow,
            cast(
                Any,
                SimpleNamespace(
                    writer=lambda: write,
                    descriptor=lambda: None,
                    write=write,
                    take_over=lambda _: None,
                    buffered=lambda: 1,
                    abort=lambda: None,
                ),
            ),
        )
        (reader,) = log.readers
        await wait_until(lambda: len(written) > 1 and not reader.listeners, "it waits for its client, out of the lane")
        await log.reap()
        now = 61.0
        await log.reap()
        await store.append([(stream, {"type": b"a", "data": b'"later"'})])

        def came() -> bool:
            slow.on_resumed()
            return b'"later"' in b"".join(written)

        await wait_until(came, "what was added later comes")
    finally:
        await hub.stop()
        await log.stop()
        await asyncio.gather(*(client.aclose() for client in clients))
