"""HTTP/2: many streams on one connection, and a bound on what a slow one may hold."""

from __future__ import annotations

import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived
from playwright.sync_api import sync_playwright

from tests.dashboard.view import CHROMIUM, LAUNCH
from tests.support.certificate import make_certificate
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until_sync

Start = Callable[..., GatewayProcess]


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    return make_certificate(tmp_path)


@pytest.fixture
def gateway(valkey: RedisServer, start_gateway: Start, tls: dict[str, str]) -> GatewayProcess:
    return start_gateway(valkey.url, http2=True, drain_seconds=0, window_bytes=1 << 20, **tls)


_THIRTY = """
async stream => {
  window.seen = new Array(30).fill(0);
  await Promise.all(window.seen.map((_, n) => new Promise((resolve, reject) => {
    const source = new EventSource(`/api/events?stream=${stream}&_n=${n}`);
    source.addEventListener('gateway.caught-up', resolve);
    source.addEventListener('a', () => { window.seen[n] += 1; });
    source.onerror = reject;
  })));
  const entry = performance.getEntriesByType('navigation')[0];
  return entry.nextHopProtocol;
}
"""


def test_thirty_event_sources_on_one_origin(gateway: GatewayProcess, db: redis.Redis, stream: str) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**LAUNCH)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.goto(f"https://127.0.0.1:{gateway.port}/healthz")
        # HTTP/1.1 browsers open six streams to an origin, and let the seventh wait for ever.
        assert page.evaluate(_THIRTY, stream) == "h2"
        for _ in range(3):
            db.xadd(stream, {"type": "a", "data": "1"})
        wait_until_sync(lambda: page.evaluate("window.seen") == [3] * 30, "each has seen each event once")
        browser.close()


class SlowReader:
    """An HTTP/2 client that never opens its windows again."""

    def __init__(self, port: int, stream: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
        assert self.sock.selected_alpn_protocol() == "h2"
        self.http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.http.send_headers(
            1,
            [
                (":method", "GET"),
                (":path", f"/api/events?stream={stream}"),
                (":scheme", "https"),
                (":authority", f"127.0.0.1:{port}"),
                ("accept", "text/event-stream"),
            ],
            end_stream=True,
        )
        self.sock.sendall(self.http.data_to_send())
        self.body = b""
        self.headers: dict[str, str] = {}

    def read_until(self, mark: bytes) -> None:
        self.sock.settimeout(20)
        while mark not in self.body:
            for event in self.http.receive_data(self.sock.recv(65_536)):
                if isinstance(event, ResponseReceived):
                    self.headers = dict(event.headers)
                elif isinstance(event, DataReceived):
                    self.body += event.data
            self.sock.sendall(self.http.data_to_send())


@pytest.fixture
def slow(gateway: GatewayProcess, stream: str) -> Iterator[SlowReader]:
    reader = SlowReader(gateway.port, stream)
    yield reader
    reader.sock.close()


def test_a_slow_stream_is_bounded(gateway: GatewayProcess, db: redis.Redis, stream: str, slow: SlowReader) -> None:
    slow.read_until(b"gateway.caught-up")
    assert slow.headers[":status"] == "200"
    assert "connection" not in slow.headers, "forbidden by RFC 9113, section 8.2.2"
    payload = '"' + "x" * 20_000 + '"'

    def flood(count: int) -> None:
        for _ in range(count):
            db.xadd(stream, {"type": "a", "data": payload}, maxlen=100)

    flood(500)
    settled = resident(gateway)
    flood(3000)  # 60 MB that this client does not take
    newest = db.xrevrange(stream, count=1)[0][0].decode()
    read = {"id": ""}

    def gateway_has_read_it() -> bool:
        read.update(httpx.get(f"https://127.0.0.1:{gateway.port}/readyz", verify=False).json()["streams"][stream])
        return read.get("position") == newest

    wait_until_sync(gateway_has_read_it, "the gateway has read all")
    assert resident(gateway) - settled < 20 << 20


def resident(gateway: GatewayProcess) -> int:
    return int(Path(f"/proc/{gateway.child.pid}/statm").read_text().split()[1]) * resource.getpagesize()
