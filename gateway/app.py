"""The one place that knows everything: settings in, an ASGI application out."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from gateway import __version__
from gateway.access.cors import Cors
from gateway.access.gate import Gate, Unauthenticated
from gateway.access.limits import OverLimit
from gateway.access.principal import Refused
from gateway.access.routes import ticket_routes
from gateway.backend.connection import Redis, connect
from gateway.bridge.api import Api
from gateway.bridge.bridge import Bridge, BridgeOptions
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import OPS_STREAM
from gateway.bridge.routes import webhook_routes
from gateway.dashboard.routes import routes as dashboard_routes
from gateway.errors import CONTENT_TYPE, Problem, unavailable
from gateway.events.position import EventId
from gateway.guard import make_guard
from gateway.operations import operation_routes
from gateway.publish import PublishLimits, publish_routes
from gateway.settings import Settings
from gateway.sse.door import Door
from gateway.sse.hub import Hub
from gateway.sse.routes import Express, event_routes
from gateway.sse.subscriber import Timing
from gateway.stream.log import Limits, Log
from gateway.stream.retention import Retention
from gateway.stream.store import Store
from gateway.telemetry import Telemetry

logger = logging.getLogger("gateway")

_RETENTION_INTERVAL = 10.0
_TAIL_TIMEOUT = 6.0  # a blocking read lasts 1 s: silence for much longer is a dead connection


class Gateway:
    """The parts of one process, and their life. `settings.redis_url` must be set."""

    def __init__(self, settings: Settings) -> None:
        if settings.redis_url is None:
            raise ValueError("a Redis URL is needed: the embedded server is started by the command, not by the app")
        self.settings = settings
        self.telemetry = Telemetry()
        self._url = settings.redis_url.get_secret_value()
        self._clients: list[Redis] = []
        self.store = Store(
            self._connect("gateway", timeout=settings.publish_timeout, connections=64), settings.publish_timeout
        )
        self.guard = make_guard(
            settings, self._connect("gateway-access", timeout=2.0, connections=8), self.telemetry.refused
        )
        self.gate = self.guard.gate
        self.log = Log(
            self.store,
            lambda: Store(self._connect("gateway-reader", timeout=None, connections=2)),
            (*settings.streams, OPS_STREAM),
            Limits(settings.window_events, settings.window_bytes, settings.max_replays),
            self.telemetry,
            time.monotonic,
            random.random,
        )
        self.hub = Hub(
            self.log,
            timing=Timing(settings.heartbeat, settings.retry, time.monotonic, random.random),
            meter=self.telemetry,
            write_timeout=settings.write_timeout,
            max_age=settings.max_connection_age,
        )
        self.retention = Retention(
            self.store,
            self.log.served,
            max_events=settings.retention_events,
            max_age=settings.retention_age,
            interval=_RETENTION_INTERVAL,
            now=time.time,
            trimmed=self.telemetry.events_trimmed.inc,
            awaited=self._slowest_endpoint,
            max_kept=settings.retention_hard_events,
        )
        self.bridge: Bridge | None = None

    def _connect(self, name: str, *, timeout: float | None, connections: int) -> Redis:
        client = connect(self._url, name=name, timeout=timeout, connections=connections)
        self._clients.append(client)
        return client

    def webhooks(self) -> Api:
        """The API of the bridge. Raises `Problem` before the process runs."""
        return Api(self._running_bridge())

    def _running_bridge(self) -> Bridge:
        if self.bridge is None:
            raise unavailable("this process is not running yet")
        return self.bridge

    async def open_urls(self, streams: set[str]) -> None:
        """Events of `streams` will bring URLs of their own: see that they are delivered."""
        await self._running_bridge().own_urls.open(sorted(streams))

    async def _slowest_endpoint(self, stream: str) -> EventId | None:
        return None if self.bridge is None else await self.bridge.slowest(stream)

    def _make_bridge(self) -> Bridge:
        return Bridge(
            self.log,
            self._connect("gateway-bridge", timeout=5.0, connections=32),
            self._connect("gateway-bridge-changes", timeout=_TAIL_TIMEOUT, connections=1),
            self.telemetry.registry,
            bridge_options(self.settings),
            narrow=lambda endpoint: _narrowed(endpoint, self.gate),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Readers and trimming at work."""
        self.log.start()
        await self.guard.start()
        await asyncio.gather(*(reader.ready(5.0) for reader in self.log.readers))
        self.bridge = self._make_bridge()
        # Not before there is a bridge to ask: the first thing it does is to trim, and endpoints may be behind.
        chores = [asyncio.create_task(self.retention.run()), asyncio.create_task(self._reap())]
        if self.settings.bridge:
            self.gate.ring.listeners.append(self.bridge.start().rights_changed)
        try:
            yield
        finally:
            await self.bridge.stop()
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)
            await self.guard.stop()
            await self.hub.stop()
            await self.log.stop()
            for client in self._clients:
                await client.aclose()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(10)
            await self.log.reap()

    async def drain(self, at_once: bool) -> None:
        """End all subscriptions, spread over the drain time unless `at_once`."""
        await self.hub.drain(0.0 if at_once else self.settings.drain_seconds)


def bridge_options(settings: Settings) -> BridgeOptions:
    """What the settings say of webhooks."""
    tls = None
    if settings.webhook_ca_file is not None:
        tls = ssl.create_default_context()
        tls.load_verify_locations(settings.webhook_ca_file)
    key, default = settings.secret_key, settings.webhook_default_secret
    return BridgeOptions(
        product=f"sse-gateway/{__version__}",
        allow_http=settings.webhook_allow_http,
        allow_cidrs=settings.webhook_allow_cidrs,
        secret_key=None if key is None else key.get_secret_value(),
        default_secret=None if default is None else default.get_secret_value(),
        logs_kept=settings.webhook_logs,
        logs_age=settings.webhook_logs_age,
        max_endpoints_per_tenant=settings.max_endpoints_per_tenant,
        tls=tls,
    )


def _narrowed(endpoint: Endpoint, gate: Gate) -> Endpoint | None:
    """The endpoint with what its maker may see now; None when that one's rights have ended."""
    if endpoint.grant is None:
        return endpoint
    maker = gate.current(endpoint.grant)
    if maker is None or not maker.may_read(endpoint.config.stream):
        return None
    return replace(endpoint, narrowed=maker.restrict(endpoint.filter))


_ERRORS = (Problem, Refused, OverLimit, Unauthenticated)


def create_app(settings: Settings) -> Starlette:
    """The application; ``app.state`` has its `gateway` and its `door`."""
    gateway = Gateway(settings)
    limits = PublishLimits(
        settings.max_body_bytes, settings.max_event_bytes, settings.publish_timeout, settings.request_timeout
    )
    door = Door(gateway.hub, gateway.gate)
    routes = [
        *event_routes(door),
        *publish_routes(gateway.log, gateway.gate, limits, gateway.telemetry.events_published.inc, gateway.open_urls),
        *ticket_routes(gateway.gate),
        *webhook_routes(gateway.webhooks, gateway.gate),
        *_operations(gateway),
        *dashboard_routes(stream=settings.streams[0], redis_url=gateway._url),
    ]
    middleware = [
        Middleware(Cors, origins=gateway.gate.policy.origins),
        Middleware(Express, door=door, errors={kind: _handler(kind) for kind in _ERRORS}),
    ]
    app = _make(gateway, routes, middleware)
    app.state.door = door
    return app


def create_bridge_app(settings: Settings) -> Starlette:
    """The bridge alone, with what operators and their machines ask of it."""
    gateway = Gateway(settings)
    return _make(gateway, _operations(gateway), [])


def _operations(gateway: Gateway) -> list[Route]:
    public = gateway.settings.public_metrics
    return operation_routes(gateway.log, gateway.hub, gateway.telemetry, gateway.gate, public_metrics=public)


def _make(gateway: Gateway, routes: Sequence[BaseRoute], middleware: list[Middleware]) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with gateway.running():
            yield

    errors = {kind: _handler(kind) for kind in _ERRORS}
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={**errors, HTTPException: _http_exception, Exception: _defect},
        lifespan=lifespan,
    )
    # A redirect would name the host that the request claims: 404 is the safer answer to a slash too many.
    app.router.redirect_slashes = False
    app.state.gateway = gateway
    return app


def _handler(kind: type[Exception]) -> Callable[[Request, Exception], Awaitable[Response]]:
    return _problem if kind is Problem else _not_allowed


def _answer(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, headers=problem.headers, media_type=CONTENT_TYPE)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(error)


async def _not_allowed(request: Request, error: Exception) -> Response:
    gateway: Gateway = request.app.state.gateway
    return _answer(gateway.gate.problem(error))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    detail = {404: f"there is nothing at {path[:200]}", 405: f"{request.method} is not possible here"}
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # Starlette names the methods of the first route of this path; RFC 9110 wants those of the resource.
        routes = [route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL]
        headers["Allow"] = ", ".join(sorted({method for route in routes for method in route.methods}))
    return _answer(Problem(error.status_code, detail.get(error.status_code, error.detail), headers=headers))


async def _defect(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, so the server logs the trace; the client gets none of it.
    return _answer(Problem(500, "an error in the gateway; the log has the details"))
