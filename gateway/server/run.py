"""One process that serves: uvicorn, with a drain before it waits for streams that never end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from gateway.app import Gateway, create_app
from gateway.server.http2 import make_protocol
from gateway.server.listen import base_url, bind
from gateway.server.lobby import Lobby, behind_lobby
from gateway.server.protocol import Protocol
from gateway.settings import Settings
from gateway.sse.door import Door

log = logging.getLogger("gateway.server")

_BACKLOG = 4096
_ENDING, _ENDING_FORCED = 20.0, 2.0
"""Seconds that uvicorn and the application have to end after the drain, and after another signal."""


class Server(uvicorn.Server):
    """Ends streams before uvicorn waits for them; a second signal leaves at once."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[bool], Awaitable[None]], started: Callable[[Server], None]
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._on_started = started
        self._at_once = False
        self._served = False

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn, with our signal handlers from before there is a loop until after it: none tears it apart."""
        with self.capture_signals():
            super().run(sockets)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Until a signal; `run` has the handlers in place."""
        await self._serve(sockets)
        self._served = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_started(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: drain. Ctrl-C: drain in no time. Another signal: leave."""
        if self._served:
            # Only the loop's end is left, and it waits for tasks: not for one that never ends.
            raise KeyboardInterrupt
        self.force_exit = self.should_exit
        self.should_exit = True
        self._at_once = sig == signal.SIGINT

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then uvicorn's own shutdown."""
        for server in self.servers:
            server.close()
        if not self.force_exit:
            drain = asyncio.ensure_future(self._drain(self._at_once))
            while not drain.done() and not self.force_exit:
                await asyncio.wait([drain], timeout=0.1)
            drain.cancel()
        ending = asyncio.ensure_future(self._end(sockets))
        left = _ENDING
        while not ending.done() and left > 0:
            await asyncio.wait([ending], timeout=0.1)
            left = min(left, _ENDING_FORCED) if self.force_exit else left
            left -= 0.1
        if ending.done():
            ending.result()
        else:
            log.error("shutdown.abandoned: a part of the gateway does not end")
            ending.cancel()

    async def _end(self, sockets: list[socket.socket] | None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn skips the application's end then, and logs the lifespan that it cuts off as an error.
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn, but without raising the signal again: an orderly end exits with 0."""
        handlers = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in handlers.items():
                signal.signal(sig, handler)


def make_config(settings: Settings, app: Starlette) -> uvicorn.Config:
    """uvicorn's configuration. With HTTP/2 its HTTP/1.1 half stays ours."""
    limits: dict[str, Any] = {
        "request_timeout": settings.request_timeout,
        "max_header_bytes": settings.max_header_bytes,
    }
    door: Door | None = getattr(app.state, "door", None)  # the bridge alone has none
    http1 = type("ServedProtocol", (Protocol,), {**limits, "at_once": None if door is None else door.at_once})
    options: dict[str, Any] = {
        "http": "zttp" if settings.http2 else http1,
        "http2": settings.http2,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "backlog": _BACKLOG,
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": 5,
        "proxy_headers": False,
    }
    config = uvicorn.Config(app, **options)
    # uvicorn takes no class of ours together with http2, nor a function, but uses what stands here.
    config.load()
    gateway: Gateway = app.state.gateway
    config.http_protocol_class = (
        make_protocol(http1)
        if settings.http2
        else behind_lobby(http1, type("ServedLobby", (Lobby,), limits), gateway.gate)
    )
    return config


def calm_the_collector() -> None:
    """Make Python look for cycles less often, and not in what the start has loaded: that stays.

    By default it looks after every 700 allocations, again and again through all connections there are.  That was 23 %
    of the CPU of a storm of connects and 13 % of a replay from Redis (py-spy).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def serve(
    settings: Settings,
    *,
    on_started: Callable[[str], None] | None = None,
    sock: socket.socket | None = None,
    orphaned: Connection | None = None,
    make_app: Callable[[Settings], Starlette] = create_app,
) -> int:
    """Run until a signal; the exit code. `on_started` gets the base URL.

    `sock` is bound already; without it one is bound here, which raises `OSError` when the port is taken. When the
    other end of `orphaned` is closed, the process that should look after this one is gone, and it ends.
    """
    sock = sock or bind(settings.host, settings.port)
    url = base_url(sock, tls=settings.ssl_certfile is not None)
    app = make_app(settings)
    gateway: Gateway = app.state.gateway

    def started(server: Server) -> None:
        if orphaned is not None:
            loop, pipe = asyncio.get_running_loop(), orphaned.fileno()

            def leave() -> None:
                # Once: a closed pipe stays readable, and a second signal means "at once".
                loop.remove_reader(pipe)
                server.handle_exit(signal.SIGTERM, None)

            loop.add_reader(pipe, leave)
        if on_started is not None:
            on_started(url)
        calm_the_collector()

    server = Server(make_config(settings, app), gateway.drain, started)
    server.run(sockets=[sock])
    return 0 if server.started else 1
