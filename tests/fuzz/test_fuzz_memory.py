"""Requests without sense, by the ten thousand: no 500, no hang, and no memory that grows with their number."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.fuzz.noise import Noise, send
from tests.support.redisserver import RedisServer
from tests.support.tokens import SECRET, make_key

WARM_UP, MORE, SENDERS = 4000, 12_000, 8
MOST = 8 << 20
"""Bytes. Something of 700 bytes that every request leaves behind is more; what rounds have differed by is less."""


def rss(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_memory_is_flat(start_gateway: Start, tmp_path: Path) -> None:
    redis = RedisServer("valkey", tmp_path / "valkey").start()
    try:
        # Caches that are filled once would look like a leak: the window of events is the largest.
        gateway = start_gateway(
            redis.url, streams=["events"], window_events=100, retention_events=100, jwt_secret=SECRET
        )
        keys = [
            (await make_key(redis.url, "subscribe publish webhooks admin"))[1],
            (await make_key(redis.url, "subscribe publish", tenant="t1", channels=["a"]))[1],
        ]
        found: Counter[int] = Counter()
        sizes = []
        for at, count in enumerate((WARM_UP, MORE)):
            noises = [Noise(at * SENDERS + n, keys).requests() for n in range(SENDERS)]
            answers = await asyncio.gather(*(send(gateway.port, noise, count // SENDERS) for noise in noises))
            for statuses in answers:
                found.update(statuses)
            sizes.append(rss(gateway.child.pid))
        assert not [status for status in found if status >= 500 and status != 501], found
        assert found[0] <= (WARM_UP + MORE) / 100 and found[200] and found[201] and found[401] and found[422], found
        assert sizes[1] - sizes[0] <= MOST, f"{sizes} after {WARM_UP} and {MORE} more"
    finally:
        redis.stop()
