"""HTTP/1.1 over TLS: its transports count differently, and the direct lane writes to them all the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import redis

from tests.support.certificate import make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer

Start = Callable[..., GatewayProcess]


async def test_replay_and_live_over_tls(
    valkey: RedisServer, db: redis.Redis, start_gateway: Start, stream: str, tmp_path: Path
) -> None:
    pipe = db.pipeline(transaction=False)
    for _ in range(3000):
        pipe.xadd(stream, {"type": "a", "data": "1"})
    wanted = [raw.decode() for raw in pipe.execute()]
    gateway = start_gateway(valkey.url, write_timeout=3, **make_certificate(tmp_path))
    base = f"https://127.0.0.1:{gateway.port}"
    got: list[str] = []
    async with (
        httpx.AsyncClient(verify=False, timeout=20) as http,
        http.stream("GET", f"{base}/api/events", params={"stream": stream, "since": "earliest"}) as response,
    ):
        async for line in response.aiter_lines():
            if not line.startswith("id: "):
                continue
            got.append(line[4:])
            if len(got) == len(wanted) + 1:  # caught up: one at a time from here on, each in a write of its own
                if len(got) > 3020:
                    break
                wanted.append(db.xadd(stream, {"type": "a", "data": "2"}).decode())
        metrics = (await http.get(f"{base}/metrics")).text
    assert got[:3000] + got[3001:] == wanted
    assert re.search(r"^gateway_fallbacks_total 0", metrics, re.M), "a reader that reads was taken for a slow one"
