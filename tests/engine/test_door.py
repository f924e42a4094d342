"""The way in that waits for nothing says and serves the same as the one that may wait, and leaves all else to that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
import uvicorn

from gateway.access.head import Head
from gateway.app import create_app
from gateway.server.listen import bind
from gateway.server.run import make_config
from gateway.settings import Settings
from gateway.sse.connection import Connection, Listener
from gateway.sse.door import Door
from tests.conftest import Start
from tests.e2e.support.wire import connected, request, subscribed
from tests.support.gateway import DEFAULTS, GatewayProcess
from tests.support.inprocess import serve_here
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until

NAMED = "https://shop.example"


def lines(gateway: GatewayProcess, *headers: str, target: str = "/api/events") -> list[bytes]:
    """Of the response's head, without the clock and uvicorn's name."""
    with subscribed(gateway.port, target, *headers) as (_, head):
        assert head.status == 200
        return sorted(line for line in head.lines if not line.startswith((b"date:", b"server:")))


@pytest.mark.parametrize("origin", [[], [f"Origin: {NAMED}"], ["Origin: https://other.example"]])
def test_all_ways_in_send_the_same_head(shared_gateway: Start, origin: list[str]) -> None:
    direct, plain = (shared_gateway(lane, cors_origins=[NAMED]) for lane in ("direct", "plain"))
    at_once = lines(direct, *origin)
    assert b"transfer-encoding: chunked" in at_once
    assert (f"access-control-allow-origin: {NAMED}".encode() in at_once) is (origin == [f"Origin: {NAMED}"])
    assert at_once == lines(plain, *origin) == lines(direct, *origin, "Last-Event-ID: 0-0")
    closing = lines(direct, *origin, "Connection: close")
    assert closing == sorted([*at_once, b"connection: close"])


def test_a_subscription_waits_behind_a_page_that_is_not_read(
    valkey: RedisServer, db: redis.Redis, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url)
    for _ in range(900):
        db.xadd(stream, {"type": "old", "data": '"%s"' % ("x" * 4000)})
    page = request("GET", f"/api/events?stream={stream}&limit=900", "Accept: application/json")
    with connected(gateway.port) as wire:
        # The page fills all buffers on the way, and the subscription comes in while its transport has some of it.
        wire.send(page + request("GET", f"/api/events?stream={stream}&control=false"))
        with subscribed(gateway.port, f"/api/events?stream={stream}") as (other, _):
            while b"caught-up" not in other.chunk():
                pass
            head = wire.head()
            db.xadd(stream, {"type": "new", "data": "1"})
            assert b"event: new" in other.chunk()
        size = head.get("content-length")
        assert size is not None
        assert len(json.loads(wire.read(int(size)))["events"]) == 900
        assert wire.head().status == 200
        received = b""
        while b"event: new" not in received:
            db.xadd(stream, {"type": "new", "data": "2"})
            received += wire.chunk()


class Recorded:
    """A connection that keeps what it is told."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.listener: Listener | None = None

    def take_over(self, listener: Listener) -> None:
        self.listener = listener

    def respond(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.sent.append(b"head")

    def write(self, data: bytes | memoryview) -> None:
        self.sent.append(bytes(data))

    def writer(self) -> Callable[[bytes | memoryview], None]:
        return self.write

    def descriptor(self) -> int | None:
        return None

    def buffered(self) -> int:
        return 0

    def _ignore(self) -> None:
        """Nothing."""

    cork = uncork = finish = abort = _ignore


def asks(path: str = "/api/events", query: bytes = b"", method: str = "GET", **headers: str) -> Head:
    given = {"host": "localhost", **headers}
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    return Head(method, path, query, lines, "127.0.0.1")


async def test_a_connect_needs_no_task(valkey: RedisServer) -> None:
    async with serve_here(valkey.url) as here:
        door: Door = here.app.state.door
        first = Recorded()
        assert door.at_once(asks(), first)  # with it the live lane begins
        before = len(asyncio.all_tasks())
        connections = [Recorded() for _ in range(20)]
        assert all(door.at_once(asks(), connection) for connection in connections)
        assert len(asyncio.all_tasks()) == before
        assert len(here.gateway.gate.sessions) == 21
        for connection in (first, *connections):
            assert connection.sent[0] == b"head"
            assert b"gateway.caught-up" in connection.sent[-1]
            assert connection.listener is not None
            connection.listener.on_lost()
        assert len(here.gateway.gate.sessions) == len(here.gateway.hub) == 0


@pytest.mark.parametrize(
    "head",
    [
        asks(method="HEAD"),
        asks(method="POST"),
        asks(path="/api/stats"),
        asks(path="/api/events/"),
        asks(query=b"since=earliest"),
        asks(query=b"last=1"),
        asks(query=b"typo=1"),
        asks(query=b"stream=not-served"),
        asks(query=b"stream=t.nobody.has.read.it"),
        asks(accept="application/json"),
        asks(accept="image/png"),
        asks(last_event_id="0-0"),
        asks(authorization="Bearer gk_unknown"),
        asks(host="evil.example"),
    ],
    ids=lambda head: f"{head.method} {head.path}?{head.query.decode()} {head.headers}",
)
async def test_all_else_is_left_untouched(valkey: RedisServer, head: Head) -> None:
    async with serve_here(valkey.url) as here:
        connection = Recorded()
        assert here.app.state.door.at_once(head, connection) is False
        assert connection.sent == []
        assert len(here.gateway.gate.sessions) == len(here.gateway.hub) == 0
        assert here.app.state.door.at_once(asks(), connection)
        assert connection.listener is not None
        connection.listener.on_lost()


@pytest.mark.parametrize("query", [b"ticket=t", b"%74icket=t", b"access_token=t", b"ticket=t&access_token=t"])
async def test_credentials_in_the_query_are_not_remembered(valkey: RedisServer, query: bytes) -> None:
    async with serve_here(valkey.url) as here:
        door: Door = here.app.state.door
        for asked in (b"format=raw", query):
            connection = Recorded()
            assert door.at_once(asks(query=asked), connection)
            assert connection.listener is not None
            connection.listener.on_lost()
        assert [known for known, _, _ in door._parser._known] == [b"format=raw"]


async def test_a_draining_process_serves_nobody_at_once(valkey: RedisServer) -> None:
    async with serve_here(valkey.url) as here:
        here.gateway.hub.draining = True
        assert here.app.state.door.at_once(asks(), Recorded()) is False


class Broken(Recorded):
    def take_over(self, listener: Any) -> None:
        raise OSError("as nobody foresaw")


async def test_a_defect_on_the_way_leaves_no_session(valkey: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve_here(valkey.url) as here:
        gateway, door = here.gateway, here.app.state.door
        with pytest.raises(OSError, match="foresaw"):
            door.at_once(asks(), Broken())
        monkeypatch.setattr(gateway.hub, "subscriber", None)
        with pytest.raises(TypeError):
            door.at_once(asks(), Recorded())
        assert len(gateway.gate.sessions) == len(gateway.hub) == 0


@pytest.mark.parametrize(("sent", "status"), [(False, 500), (True, None)])
async def test_a_defect_on_the_way_is_answered_while_it_can_be(
    valkey: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    sent: bool,
    status: int | None,
) -> None:
    app = create_app(Settings(**{**DEFAULTS, "redis_url": valkey.url}))

    class Doomed:
        def at_once(self, head: Head, connection: Connection) -> bool:
            if sent:
                connection.respond([])
            raise OSError("as nobody foresaw")

    app.state.door = Doomed()

    async def fail(self: Door, request: Any) -> None:
        raise OSError("nor here")

    monkeypatch.setattr(Door, "answer", fail)
    server = uvicorn.Server(make_config(app.state.gateway.settings, app))
    sock = bind("127.0.0.1", 0)
    serving = asyncio.create_task(server._serve([sock]))
    await wait_until(lambda: server.started)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(request("GET", "/api/events"))
    first = await reader.read(1000) if not sent else await _until_cut(reader)
    assert first.startswith(b"HTTP/1.1 500") if status else not first or first.startswith(b"HTTP/1.1 200")
    assert "connect.failed" in caplog.text
    writer.close()
    server.should_exit = True
    await serving


async def _until_cut(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_the_reader_of_a_stream_that_somebody_waits_for_is_not_reaped(
    valkey: RedisServer, db: redis.Redis, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_here(valkey.url) as here:
        gateway, door = here.gateway, here.app.state.door
        await gateway.log.reader(stream)
        gateway.log._idle_since[stream] = -1000.0  # nobody has asked for it for a long time
        monkeypatch.setattr(gateway.hub._lane, "can_join", lambda subscriber: False)  # another stream is behind
        connection = Recorded()
        assert door.at_once(asks(query=f"stream={stream}".encode()), connection)
        await gateway.log.reap()
        monkeypatch.undo()
        await wait_until(lambda: b"caught-up" in b"".join(connection.sent))
        db.xadd(stream, {"type": "a", "data": "1"})
        await wait_until(lambda: b"event: a" in b"".join(connection.sent))
        assert connection.listener is not None
        connection.listener.on_lost()
