"""A gateway inside the test's own event loop, on a real socket: for tests that count its tasks or look into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette

from gateway.app import Gateway, create_app
from gateway.settings import Settings
from tests.support.gateway import DEFAULTS
from tests.support.wait import wait_until


class Here(NamedTuple):
    url: str
    app: Starlette
    gateway: Gateway


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """The signals are pytest's."""


@asynccontextmanager
async def serve_here(redis_url: str, **settings: Any) -> AsyncIterator[Here]:
    """The app under an unchanged uvicorn, on a free port."""
    app = create_app(Settings(**{**DEFAULTS, "redis_url": redis_url, **settings}))
    config = uvicorn.Config(
        app, port=0, ws="none", lifespan="on", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server._serve())
    try:
        await wait_until(lambda: server.started or serving.done(), "the server has started")
        if serving.done():
            serving.result()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Here(f"http://127.0.0.1:{port}", app, app.state.gateway)
    finally:
        server.should_exit = True
        await serving
