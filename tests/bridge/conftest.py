"""Fixtures of the bridge: a Redis of one's own, a receiver, a bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.bridge.receiver import Receiver
from tests.bridge.rig import Rig
from tests.support.redisserver import RedisServer


@pytest.fixture(scope="session")
def bridge_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer("valkey", tmp_path_factory.mktemp("bridge-valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(bridge_valkey: RedisServer) -> Iterator[str]:
    """An empty database: leases and endpoints belong to one test."""
    with bridge_valkey.client() as client:
        client.flushall()
    yield bridge_valkey.url


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    it = await Receiver().start()
    yield it
    await it.stop()


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with Rig(redis_url) as it:
        yield it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
