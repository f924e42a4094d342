"""Real proxies with the delivered configurations: TLS, HTTP/2, no buffering, no token in a log, one gateway away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from tests.conftest import Start
from tests.deploy.proxies import NAME, Proxy, program
from tests.support.child import Child, free_port
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync


@pytest.fixture
def gateway(start_gateway: Start, valkey: RedisServer, stream: str) -> GatewayProcess:
    return start_gateway(valkey.url, streams=[stream])


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


def _subscribe(proxy: Proxy, query: str, out: Path) -> Child:
    url = f"https://{NAME}:{proxy.port}/api/events{query}"
    resolve = f"{NAME}:{proxy.port}:127.0.0.1"
    return Child([program("curl"), "-skNi", "--http2", "--resolve", resolve, url], out)


def test_events_pass_at_once_over_http2(proxy: Proxy, db: redis.Redis, stream: str, tmp_path: Path) -> None:
    child = _subscribe(proxy, "", tmp_path / "out")
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


def test_the_access_token_is_in_no_log(proxy: Proxy, tmp_path: Path) -> None:
    child = _subscribe(proxy, "?access_token=secret-1234567890", tmp_path / "out")
    try:
        wait_until_sync(lambda: "gateway.caught-up" in child.output() or "HTTP/2 401" in child.output(), "an answer")
    finally:
        child.kill()
    wait_until_sync(lambda: "/api/events" in proxy.access_log.read_text(), "a line in the log")
    assert "secret-1234567890" not in proxy.access_log.read_text() + proxy.output()


def test_a_post_passes(proxy: Proxy, gateway: GatewayProcess) -> None:
    event = {"type": "a.b", "data": 1}
    assert httpx.post(f"https://127.0.0.1:{proxy.port}/api/events", json=event, verify=False).status_code == 201
