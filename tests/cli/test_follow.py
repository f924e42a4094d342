"""The follower against servers that misbehave: cut frames, proxies' errors, silence, endings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from gateway.cli.client import Refused
from gateway.cli.follow import Ended, Follower

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Server:
    """Answers each request with the next script, and keeps the requests."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.requests: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        return await self._scripts.pop(0)(request)

    async def __aenter__(self) -> _Server:
        app = web.Application()
        app.router.add_get("/api/events", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def _stream(*chunks: bytes, position: str = "", cut: bool = False) -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", **({"Gateway-Position": position} if position else {})}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return script


def _answer(status: int, body: str = "", **headers: str) -> Script:
    async def script(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=headers)

    return script


class _Following:
    """A follower whose pauses take no time and are written down."""

    def __init__(self, server: _Server, session: aiohttp.ClientSession, **query: str) -> None:
        self.pauses: list[float] = []
        self.notes: list[str] = []
        self.follower = Follower(
            session,
            server.url,
            query,
            note=self.notes.append,
            patience=0.0,
            chance=random.Random(1),
            pause=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def take(self, count: int) -> list[str]:
        data: list[str] = []
        async for events in self.follower.batches():
            data += [event.data for event in events]
            if len(data) >= count:
                break
        return data


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_frame_that_is_cut_is_asked_for_again(session: aiohttp.ClientSession) -> None:
    whole, half = b"data: 1\nid: 1-0\n\n", b"data: 2\nid: 2-0\n"
    for cut in (False, True):
        async with _Server(_stream(b"retry: 70\n", whole + half, cut=cut), _stream(b"data: 2\nid: 2-0\n\n")) as server:
            following = _Following(server, session, since="earliest")
            assert await following.take(2) == ["1", "2"]
            assert server.requests[1].headers["Last-Event-ID"] == "1-0"
            assert "since" not in server.requests[1].query
            assert following.pauses == [0.07]


async def test_cut_before_the_first_event_it_resumes_where_the_response_began(session: aiohttp.ClientSession) -> None:
    async with _Server(_stream(b":\n", position="5-0"), _stream(b"data: 6\nid: 6-0\n\n")) as server:
        assert await _Following(server, session).take(1) == ["6"]
        assert server.requests[1].headers["Last-Event-ID"] == "5-0"


async def test_an_event_without_an_id_does_not_forget_the_position(session: aiohttp.ClientSession) -> None:
    scripts = [_stream(b"data: 1\nid: 1-0\n\n"), _stream(b"data: 2\n\n"), _stream(b"data: 3\nid: 3-0\n\n")]
    async with _Server(*scripts) as server:
        assert await _Following(server, session).take(3) == ["1", "2", "3"]
        assert [request.headers.get("Last-Event-ID") for request in server.requests] == [None, "1-0", "1-0"]


async def test_proxies_errors_are_waited_out_with_growing_pauses(session: aiohttp.ClientSession) -> None:
    opening = _stream(b"retry: 100\ndata: 1\nid: 1-0\n\n")
    errors = [_answer(502), _answer(503, **{"Retry-After": "2"}), _answer(429), _answer(500)]
    async with _Server(opening, *errors, _stream(b"data: 2\nid: 2-0\n\n")) as server:
        following = _Following(server, session)
        assert await following.take(2) == ["1", "2"]
        first, second, third, fourth, fifth = following.pauses
        assert first == 0.1
        assert 0.1 <= second <= 0.2
        assert second < third < fourth < fifth <= 30
        assert third >= 2
        assert [note.split()[0] for note in following.notes] == ["lost", "connected"]


async def test_refusals_and_endings_are_final(session: aiohttp.ClientSession) -> None:
    problem = '{"title":"Forbidden","status":403,"detail":"channel voice is not yours"}'
    async with _Server(_answer(403, problem)) as server:
        with pytest.raises(Refused, match="403: channel voice is not yours"):
            await _Following(server, session).take(1)
    async with _Server(_answer(204)) as server:
        with pytest.raises(Ended, match="204"):
            await _Following(server, session).take(1)
    async with _Server(_answer(200, "<html>")) as server:
        with pytest.raises(Ended, match="text/plain"):
            await _Following(server, session).take(1)
    closing = b'event: gateway.closing\ndata: {"reason":"revoked","reconnect":false}\nid: 1-0\n\n'
    async with _Server(_stream(closing)) as server:
        with pytest.raises(Ended, match="revoked"):
            await _Following(server, session).take(2)


async def test_after_a_drain_it_comes_back_when_told(session: aiohttp.ClientSession) -> None:
    closing = b'retry: 4321\nevent: gateway.closing\ndata: {"reason":"drain","reconnect":true}\nid: 1-0\n\n'
    async with _Server(_stream(closing), _stream(b"data: 2\nid: 2-0\n\n")) as server:
        following = _Following(server, session)
        assert len(await following.take(2)) == 2
        assert following.pauses == [4.321]


async def test_never_reached_is_an_error_once_patience_has_run_out(session: aiohttp.ClientSession) -> None:
    async with _Server(_answer(502)) as server:
        with pytest.raises(Refused, match="502"):
            await _Following(server, session).take(1)
    with pytest.raises(aiohttp.ClientConnectorError):
        await _Following(server, session).take(1)


async def test_a_silent_connection_is_given_up() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Gateway-Position": "5-0"})
        await response.prepare(request)
        await asyncio.sleep(3600)
        return response

    timeout = aiohttp.ClientTimeout(total=None, sock_read=0.05)
    async with (
        _Server(silent, _stream(b"data: 6\nid: 6-0\n\n")) as server,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        following = _Following(server, session)
        assert await following.take(1) == ["6"]
        assert "no answer in time" in following.notes[0]
