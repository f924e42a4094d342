"""A Redis that is still loading its data answers, but not what is asked: the gateway waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import BusyLoadingError

from gateway.backend.inspection import RedisLoading, inspect_loaded
from gateway.backend.valkey import ask
from tests.support.command import Command
from tests.support.redisserver import Kind, RedisServer
from tests.support.wait import wait_until_sync

_EVENTS = 40_000


@pytest.fixture(params=["valkey", "redis"])
def loading(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that has begun to load its data, and needs some seconds for it."""
    kind: Kind = request.param
    server = RedisServer(kind, tmp_path / "redis", fsync="no").start()
    with server.client() as client:
        pipe = client.pipeline(transaction=False)
        for number in range(_EVENTS):
            pipe.xadd("events", {"type": "a.b", "data": str(number)})
        pipe.execute()
    server.stop()
    server.start("--key-load-delay", "300", loaded=False)
    wait_until_sync(lambda: _is_loading(server), "it loads")
    yield server
    server.stop()


def _is_loading(server: RedisServer) -> bool:
    try:
        return ask(server.port) is not None
    except BusyLoadingError:
        return True


def test_serve_waits_for_it_and_says_so(loading: RedisServer, tmp_path: Path) -> None:
    with Command("serve", "--port", "0", "--redis-url", loading.url, cwd=tmp_path) as gateway:
        gateway.wait_for_err("is still loading its data; waiting up to 60 s")
        with loading.client() as client:
            wait_until_sync(lambda: _hurry(client), "it loads without delay")
        wait_until_sync(lambda: "XADD" in gateway.out or gateway.process.poll() is not None, "the banner", 60)
        assert loading.url in gateway.out, gateway.err
        assert gateway.err.count("still loading") == 1
        assert gateway.stop() == 0


def _hurry(client: redis.Redis) -> bool:
    try:
        return bool(client.config_set("key-load-delay", 0))
    except redis.RedisError:
        return False


async def test_patience_ends(loading: RedisServer) -> None:
    said: list[str] = []
    with pytest.raises(RedisLoading, match="still loading its data; try again in a moment"):
        await inspect_loaded(loading.url, patience=0, waiting=said.append)
    assert said == []


def test_a_loading_server_has_not_answered_yet(loading: RedisServer) -> None:
    """The embedded one is waited for; INFO and CONFIG already answer."""
    with pytest.raises(BusyLoadingError):
        ask(loading.port, timeout=5.0)
