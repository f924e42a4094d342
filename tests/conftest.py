"""Fixtures that all tests share: real servers, made once, and a check that nothing is left behind."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis

from tests.support.gateway import LANES, GatewayProcess, Lane
from tests.support.keyleak import leaked_keys
from tests.support.redisserver import KINDS, RedisServer

# A deadline would make a slow machine a failure.
hypothesis.settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Valkey that the gateway embeds, in memory only. Tests keep apart by stream names: see `stream`."""
    server = RedisServer("valkey", tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The redis-server of the system; skips where there is none."""
    server = RedisServer("redis", tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
def any_redis(request: pytest.FixtureRequest) -> RedisServer:
    """Each kind of server in turn."""
    server: RedisServer = request.getfixturevalue("valkey" if request.param == "valkey" else "redis7")
    return server


@pytest.fixture
def db(valkey: RedisServer) -> Iterator[redis.Redis]:
    """A blocking client of `valkey`; after the test nothing may be left that lives for ever, but test streams."""
    with valkey.client() as client:
        yield client
        assert leaked_keys(client, ["t.*", "events", "gateway:ops", "gateway:webhooks*", "gateway:{whk_url_*}:*"]) == []


@pytest.fixture
def stream() -> str:
    """The name of a stream that nobody has used; `GatewayProcess` serves it by the glob ``t.*``."""
    return f"t.{next(_numbers)}.{uuid.uuid4().hex[:8]}"


Start = Callable[..., GatewayProcess]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Start]:
    """``start_gateway(redis_url, lane=..., **settings)`` -> a running gateway, ended after the test."""
    started: list[GatewayProcess] = []

    def start(redis_url: str, lane: Lane = "direct", **settings: Any) -> GatewayProcess:
        gateway = GatewayProcess(redis_url, tmp_path / f"gateway{len(started)}.log", lane, **settings)
        started.append(gateway)
        return gateway.start()

    yield start
    for gateway in started:
        gateway.stop()
    _check_logs(started)


def _check_logs(gateways: list[GatewayProcess]) -> None:
    for gateway in gateways:
        text = gateway.log_text()
        # An unchanged uvicorn cuts what a failed test left open, and says so at length.
        if "timeout graceful shutdown exceeded" not in text:
            assert "Traceback" not in text, text


@pytest.fixture(scope="session")
def shared_gateway(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """``shared_gateway(lane, **settings)`` -> the gateway with these settings, by default over `valkey`, kept."""
    running: dict[str, GatewayProcess] = {}
    folder = tmp_path_factory.mktemp("gateways")

    def get(lane: Lane = "direct", **settings: Any) -> GatewayProcess:
        key = json.dumps([lane, settings], sort_keys=True)
        if key not in running:
            log = folder / f"gateway{len(running)}.log"
            running[key] = GatewayProcess(**{"redis_url": valkey.url, "log": log, "lane": lane, **settings}).start()
        return running[key]

    yield get
    for gateway in running.values():
        gateway.stop()
    _check_logs(list(running.values()))


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> Lane:
    """Each way for bytes to reach the socket; behaviour is the same."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def gateway(lane: Lane, shared_gateway: Start) -> GatewayProcess:
    """A gateway over `valkey` with default settings, in each lane."""
    return shared_gateway(lane)
