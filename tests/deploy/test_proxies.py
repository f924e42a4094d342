"""Real proxies with the delivered configurations: TLS, HTTP/2, no buffering, no token in a log, one gateway away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
import redis

from tests.conftest import Start
from tests.deploy.proxies import NAME, Proxy, program
from tests.support.child import Child, free_port
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

SECRET = "0123456789abcdef0123456789abcdef"
TOKEN = jwt.encode({"scope": "subscribe publish"}, SECRET, "HS256")
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def gateway(start_gateway: Start, valkey: RedisServer, stream: str) -> GatewayProcess:
    # Without access control the gateway answers to local host names only. HAProxy logs a stream when it fails to write.
    return start_gateway(valkey.url, streams=[stream], jwt_secret=SECRET, heartbeat=0.5)


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Proxy]:
    """In front of one gateway that is there and one that is not."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    proxy = Proxy(request.param, folder, (gateway.port, free_port()))
    checked = subprocess.run(proxy.check, capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    proxy.start()

    def answers() -> bool:
        assert proxy.running, proxy.output()
        try:
            return httpx.get(f"https://127.0.0.1:{proxy.port}/healthz", verify=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until_sync(answers, "the proxy answers")
    yield proxy
    proxy.stop()


def _subscribe(proxy: Proxy, out: Path) -> Child:
    url = f"https://{NAME}:{proxy.port}/api/events?access_token={TOKEN}"
    resolve = f"{NAME}:{proxy.port}:127.0.0.1"
    return Child([program("curl"), "-skNi", "--http2", "--resolve", resolve, url], out)


def test_events_pass_at_once_over_http2(proxy: Proxy, db: redis.Redis, stream: str, tmp_path: Path) -> None:
    child = _subscribe(proxy, tmp_path / "out")
    try:
        wait_until_sync(lambda: "gateway.caught-up" in child.output(), "the stream is open")
        assert child.output().startswith("HTTP/2 200")
        delays = []
        for number in range(20):
            began = time.monotonic()
            db.xadd(stream, {"type": "a.b", "data": str(number)})
            wait_until_sync(lambda number=number: f'"data":{number}}}' in child.output(), f"event {number}")
            delays.append(time.monotonic() - began)
        # A proxy that buffers holds back for 200 ms or for ever. The median does not mind a busy machine.
        assert sorted(delays)[10] < 0.15, delays
    finally:
        child.kill()


def test_the_access_token_is_in_no_log(proxy: Proxy, gateway: GatewayProcess, tmp_path: Path) -> None:
    child = _subscribe(proxy, tmp_path / "out")
    try:
        wait_until_sync(lambda: "gateway.caught-up" in child.output(), "the stream is open")
    finally:
        child.kill()
    wait_until_sync(lambda: "/api/events" in proxy.access_log.read_text(), "a line in the log")
    for log in (proxy.access_log.read_text(), proxy.output(), gateway.log_text()):
        assert TOKEN not in log


def test_a_post_passes(proxy: Proxy, gateway: GatewayProcess) -> None:
    event = {"type": "a.b", "data": 1}
    url = f"https://127.0.0.1:{proxy.port}/api/events"
    assert httpx.post(url, json=event, headers=BEARER, verify=False).status_code == 201
