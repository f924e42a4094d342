"""Clients that come and go in every way leave nothing behind."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.support.gateway import GatewayProcess, Lane
from tests.support.inprocess import serve_here
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One of its own: endpoints that other tests have left would be taken up while tasks and files are counted."""
    server = RedisServer("valkey", tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


async def come_and_go(url: str, stream: str, n: int) -> None:
    """One connection that ends in one of five ways."""
    opened: EventStream = await subscribe(
        url, {"stream": stream, "since": "earliest"}, cut_after=n * 37 % 5000 if n % 5 == 4 else None
    )
    try:
        match n % 5:
            case 0:
                opened.reset()
            case 1:
                await opened.told("caught-up")
                opened.cut()
            case 2:
                opened.stall()
                opened.reset()
            case 3:
                await opened.told("caught-up")
                opened.reset()
            case _:
                opened.transport.write_eof()
                opened.cut()
    finally:
        await opened.until_closed()


async def open_connections(url: str) -> int:
    async with httpx.AsyncClient() as http:
        text = (await http.get(url + "/metrics")).text
    return int(sum(float(value) for value in re.findall(r"^gateway_connections\{[^}]*\} (\S+)$", text, re.M)))


async def test_nothing_is_left_of_a_thousand_connections(
    valkey: RedisServer, db: redis.Redis, start_gateway: Start, lane: Lane, stream: str
) -> None:
    for _ in range(50):
        db.xadd(stream, {"type": "a.b", "data": '"' + "x" * 300 + '"'})
    gateway = start_gateway(valkey.url, lane)
    await asyncio.gather(*(come_and_go(gateway.url, stream, n) for n in range(20)))
    await wait_until(lambda: no_connections(gateway.url), "the first ones are gone")
    files = gateway.child.open_files()
    for start in range(0, 1000, 100):
        await asyncio.gather(*(come_and_go(gateway.url, stream, n) for n in range(start, start + 100)))
    await wait_until(lambda: no_connections(gateway.url), "all are gone")
    await wait_until(lambda: gateway.child.open_files() <= files + 2, lambda: f"{gateway.child.open_files()} files")


async def no_connections(url: str) -> bool:
    return await open_connections(url) == 0


async def test_no_task_and_no_listener_is_left(valkey: RedisServer, db: redis.Redis, stream: str) -> None:
    db.xadd(stream, {"type": "a.b", "data": "1"})
    async with serve_here(valkey.url) as here:
        await come_and_go(here.url, stream, 1)
        await wait_until(lambda: len(here.gateway.hub) == 0)
        before = Counter(map(what, asyncio.all_tasks()))
        await asyncio.gather(*(come_and_go(here.url, stream, n) for n in range(100)))
        await wait_until(lambda: len(here.gateway.hub) == 0, lambda: f"{here.gateway.hub!r}")
        await wait_until(lambda: Counter(map(what, asyncio.all_tasks())) <= before, lambda: f"{asyncio.all_tasks()}")
        assert not any(reader.listeners for reader in here.gateway.log.readers if reader.stream == stream)


def what(task: asyncio.Task[object]) -> str:
    """What a task does, without its number."""
    return task.get_coro().__qualname__  # type: ignore[union-attr]


def test_the_gateway_leaves_no_process_and_no_file(valkey: RedisServer, start_gateway: Start, tmp_path: Path) -> None:
    before = set(Path.cwd().iterdir())
    gateway = start_gateway(valkey.url)
    assert gateway.stop() == 0
    assert set(Path.cwd().iterdir()) - before <= {Path.cwd() / ".pytest_cache", Path.cwd() / ".hypothesis"}
