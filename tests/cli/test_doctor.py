"""``gateway doctor``: a sound setup passes; each way of spoiling a stream is found and named."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.cli.probe import check
from tests.support.command import Serve, run
from tests.support.redisserver import RedisServer

_OPENING = b"retry: 3000\n: open\n"
_CAUGHT_UP = b'event: gateway.caught-up\ndata: {"position":"0-0","replayed":0}\nid: 0-0\n\n'

Behaviour = Callable[[web.StreamResponse], Coroutine[Any, Any, None]]


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _good(response: web.StreamResponse) -> None:
    await response.write(_OPENING)
    await response.write(_CAUGHT_UP)
    await _for_ever()


async def _buffered(response: web.StreamResponse) -> None:
    await _for_ever()


async def _half_buffered(response: web.StreamResponse) -> None:
    await response.write(_OPENING)
    await _for_ever()


async def _delayed(response: web.StreamResponse) -> None:
    await response.write(_OPENING)
    await asyncio.sleep(0.3)
    await response.write(_CAUGHT_UP)
    await _for_ever()


async def _late(response: web.StreamResponse) -> None:
    await asyncio.sleep(1.2)
    await _good(response)


async def _cut(response: web.StreamResponse) -> None:
    await response.write(_OPENING + _CAUGHT_UP)


async def _beating(response: web.StreamResponse) -> None:
    await response.write(_OPENING + _CAUGHT_UP)
    await asyncio.sleep(0.05)
    await response.write(b":\n")
    await _for_ever()


@asynccontextmanager
async def _gateway(behave: Behaviour, **headers: str) -> AsyncIterator[str]:
    async def events(request: web.Request) -> web.StreamResponse:
        sent = {"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform", **headers}
        response = web.StreamResponse(headers=sent)
        if headers.get("Content-Encoding") == "gzip":
            await response.prepare(request)
            packer = zlib.compressobj(wbits=31)
            await response.write(packer.compress(_OPENING + _CAUGHT_UP) + packer.flush(zlib.Z_SYNC_FLUSH))
            await _for_ever()
        if behave is not _buffered:
            await response.prepare(request)
        await behave(response)
        return response

    async def fine(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes([web.get("/api/events", events), web.get("/healthz", fine), web.get("/readyz", fine)])
    runner = web.AppRunner(app, shutdown_timeout=0.05, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _verdicts(behave: Behaviour, idle: float = 0.0, **headers: str) -> list[tuple[str, str]]:
    async with _gateway(behave, **headers) as url, aiohttp.ClientSession() as session:
        return [(finding.severity, finding.text) for finding in await check(session, url, idle)]


async def test_a_clear_way_has_no_problem() -> None:
    assert {severity for severity, _ in await _verdicts(_good)} == {"ok"}


@pytest.mark.parametrize(
    ("behave", "severity", "text"),
    [
        (_buffered, "error", "buffered on the way: nothing came"),
        (_half_buffered, "error", "the event after them did not"),
        (_delayed, "warning", "small writes are delayed on the way"),
        (_late, "error", "the stream is held back on the way, by 1."),
    ],
)
async def test_a_way_that_holds_events_back(behave: Behaviour, severity: str, text: str) -> None:
    verdicts = await _verdicts(behave)
    assert any(found == severity and text in said for found, said in verdicts), verdicts


async def test_a_way_that_changes_the_response() -> None:
    verdicts = dict(map(reversed, await _verdicts(_good, **{"Cache-Control": "no-cache", "Server": "proxy/1"})))
    assert verdicts["Cache-Control: no-transform was removed on the way"] == "warning"
    assert verdicts["answered by proxy/1"] == "ok"
    verdicts = dict(map(reversed, await _verdicts(_good, **{"Content-Encoding": "gzip"})))
    assert verdicts["the stream is compressed on the way, which can hold events back"] == "warning"


async def test_an_idle_stream() -> None:
    assert ("error", True) in [(severity, "was cut after" in text) for severity, text in await _verdicts(_cut, 5.0)]
    assert ("ok", True) in [(severity, "heartbeat after" in text) for severity, text in await _verdicts(_beating, 5.0)]
    assert ("warning", True) in [(severity, "no heartbeat" in text) for severity, text in await _verdicts(_good, 0.1)]


def test_a_sound_setup_passes(tmp_path: Path) -> None:
    with Serve(cwd=tmp_path) as gateway:
        done = run("doctor", gateway.url, "--json", cwd=tmp_path)
        report = json.loads(done.stdout)
        assert (done.returncode, report["healthy"]) == (0, True)
        assert {check["area"] for check in report["checks"]} == {
            f"redis {gateway.redis_url}",
            "limits",
            f"way to {gateway.url}",
        }
        found = {check["text"]: check["severity"] for check in report["checks"]}
        assert found["append-only file"] == found["eviction policy noeviction"] == found["ready"] == "ok"
        shown = run("doctor", gateway.url, cwd=tmp_path)
        assert shown.returncode == 0
        assert "✓ append-only file" in shown.stdout
    gone = run("doctor", gateway.url, cwd=tmp_path)
    assert gone.returncode == 1
    assert f"✗ cannot reach {gateway.url}: connection refused" in gone.stdout


def test_nothing_to_check_is_no_failure(tmp_path: Path) -> None:
    done = run("doctor", "--json", cwd=tmp_path)
    checks = json.loads(done.stdout)["checks"]
    assert "skipped" in {check["severity"] for check in checks}
    assert [check["severity"] for check in checks if check["area"] == "redis"] == ["skipped"]


def test_an_unfit_redis(tmp_path: Path) -> None:
    server = RedisServer("redis", tmp_path / "redis").start()
    try:
        with server.client() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        done = run("doctor", "--redis-url", server.url, cwd=tmp_path)
        assert "! eviction policy allkeys-lru can drop whole streams" in done.stdout
        assert "! no persistence" in done.stdout
    finally:
        server.stop()
    done = run("doctor", "--redis-url", server.url, "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        json.loads(done.stdout)["checks"][0]["text"] == f"Redis at {server.url} refused the connection: is it running?"
    )


def test_wrong_usage(tmp_path: Path) -> None:
    done = run("doctor", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: URL: must be a URL such as http://127.0.0.1:8080, not 'nowhere'\n"
