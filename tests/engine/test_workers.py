"""Several processes on one port."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.sseclient import subscribe
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]


def workers_of(supervisor: int) -> list[int]:
    """Process ids of the children that serve."""
    serving = []
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        with suppress(FileNotFoundError):  # it has just ended
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                serving.append(int(pid))
    return serving


def streams_of(pid: int, port: int) -> int:
    """How many connections to `port` a process has open."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").rstrip("]"))
        except OSError:
            continue
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(f":{port:04X}") and words[3] == "01" and words[9] in inodes:
            count += 1
    return count


async def test_connections_spread_and_a_dead_worker_comes_back(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url, workers=2, drain_seconds=0)
    supervisor = gateway.child.pid
    readers = [await subscribe(gateway.url, {"stream": stream}) for _ in range(200)]
    for reader in readers:
        await reader.told("caught-up")
    first = workers_of(supervisor)
    assert len(first) == 2

    def shared() -> Counter[int] | None:
        # Somebody who looks for a free port may have connected by chance: he leaves again.
        found = Counter({pid: streams_of(pid, gateway.port) for pid in first})
        return found if found.total() == 200 else None

    shares = await wait_until(shared, "200 connections")
    assert shares is not None
    # By chance alone: 200 fair coins give fewer than 60 heads once in 10^8 runs.
    assert min(shares.values()) >= 60, shares

    async with valkey.aclient() as db:
        await db.xadd(stream, {"type": "a", "data": "1"})
    for reader in readers:
        await reader.has(1)
    async with httpx.AsyncClient() as http:
        text = (await http.get(gateway.url + "/metrics")).text
    assert re.search(r'^gateway_connections\{representation="sse"\} 200\.0$', text, re.M), "of all workers together"
    assert re.search(r"^gateway_frames_written_total 200\.0$", text, re.M)

    os.kill(first[0], signal.SIGKILL)
    await wait_until(lambda: len(workers_of(supervisor)) == 2 and first[0] not in workers_of(supervisor), "another one")
    for reader in readers:
        reader.cut()
        await reader.until_closed()
    assert "worker.died" in gateway.log_text()
    assert gateway.stop() == 0
    assert not any_alive(first), "workers outlive their supervisor"


def any_alive(pids: list[int]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_workers_end_with_a_supervisor_that_was_killed(valkey: RedisServer, start_gateway: Start) -> None:
    gateway = start_gateway(valkey.url, workers=2, drain_seconds=0)
    workers = workers_of(gateway.child.pid)
    gateway.kill()
    await wait_until(lambda: not any_alive(workers), "nobody is left")
