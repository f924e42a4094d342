"""``GET /api/events``: live SSE, live NDJSON, or a page of history, by ``Accept``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.gate import Gate
from gateway.access.head import head_of
from gateway.access.sessions import Reason, Session
from gateway.backend.connection import UNAVAILABLE
from gateway.errors import Problem, unavailable
from gateway.sse.ending import EXPIRED, NARROWED, REVOKED, Ending
from gateway.sse.hub import Hub, position_of
from gateway.sse.page import read_page
from gateway.sse.request import AtTime, EventsRequest, parse_request
from gateway.sse.response import StreamResponse
from gateway.sse.subscriber import Subscriber
from gateway.stream.cursor import Cursor
from gateway.stream.log import NotReady, NotServed

PATH = "/api/events"
Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Awaitable[Response]]
_MAX_PARAMETERS = 1000
_ENDINGS: Mapping[Reason, Ending] = {"expired": EXPIRED, "revoked": REVOKED, "narrowed": NARROWED}


def event_routes(hub: Hub, gate: Gate, now: Callable[[], float] = time.time) -> list[Route]:
    """The route, over `hub`, for whom `gate` lets in; `now` is Unix time in seconds."""

    reader = _Reader(hub.log.default_stream, now)

    async def get_events(request: Request) -> Response:
        caller = await gate.require(request, "subscribe")
        wanted = reader.read(request)
        if hub.draining and wanted.accept != "json":
            raise unavailable("this process is shutting down", retry_after=3)
        session = gate.admit(caller, request, wanted.filter, wanted.streams)
        subscriber: Subscriber | None = None
        try:
            narrowed = wanted if session.filter is wanted.filter else replace(wanted, filter=session.filter)
            if narrowed.accept == "json":
                return await _page(hub, narrowed, session, head=request.method == "HEAD")
            subscriber = await _open(hub, narrowed, session)
            return StreamResponse(subscriber, hub, hub.write_timeout)
        except NotServed as error:
            raise Problem(404, f"stream {error} is not served here") from None
        except NotReady as error:
            raise unavailable(str(error)) from None
        except UNAVAILABLE:
            raise unavailable("Redis cannot be reached") from None
        finally:
            if subscriber is None or request.method == "HEAD":
                session.close()

    return [Route(PATH, get_events, methods=["GET"], name="subscribe")]


class Express:
    """Middleware: takes ``GET /api/events`` past the framework's own layers, straight to its endpoint.

    A tenth of what a connect costs here, and a storm of reconnects is when that counts.  `errors` turns what the
    endpoint raises into the answer that the layers would have given.
    """

    def __init__(self, app: ASGIApp, route: Route, errors: Mapping[type[Exception], Handler]) -> None:
        self._app = app
        self._endpoint: Endpoint = route.endpoint
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request)
        except tuple(self._errors) as error:
            handler = next(self._errors[kind] for kind in self._errors if isinstance(error, kind))
            response = await handler(request, error)
        await response(scope, receive, send)


class _Reader:
    """Parses requests, remembering those without a clock in them: clients that come back in a storm ask the same."""

    _MOST = 1024

    def __init__(self, default_stream: str, now: Callable[[], float]) -> None:
        self._default_stream = default_stream
        self._now = now
        self._known: dict[tuple[bytes, str, str], EventsRequest] = {}

    def read(self, request: Request) -> EventsRequest:
        """What is asked for. Raises `Problem`."""
        head = head_of(request.scope)
        query = head.query
        key = (query, head.get(b"accept") or "", head.get(b"last-event-id") or "")
        wanted = self._known.get(key)
        if wanted is None:
            wanted = self._parse(*key)
            if not isinstance(wanted.start, AtTime) and len(query) < 1024:
                if len(self._known) >= self._MOST:
                    self._known.clear()
                self._known[key] = wanted
        return wanted

    def _parse(self, query: bytes, accept: str, last_event_id: str) -> EventsRequest:
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise Problem(400, f"more than {_MAX_PARAMETERS} query parameters") from None
        return parse_request(
            pairs, accept=accept, last_event_id=last_event_id, default_stream=self._default_stream, now=self._now
        )


async def _open(hub: Hub, wanted: EventsRequest, session: Session) -> Subscriber:
    """A subscriber that ends with its `session`, and the session with it."""
    subscriber = await hub.open(wanted)
    if not _in_memory(subscriber.cursors):
        session.replay(lambda: subscriber.caught_up)
    subscriber.on_close = session.close
    session.watch(lambda reason: subscriber.end(_ENDINGS[reason]))
    return subscriber


def _in_memory(cursors: Sequence[Cursor]) -> bool:
    return all(cursor.at_tail or cursor.reader.window.covers(cursor.position) for cursor in cursors)


async def _page(hub: Hub, wanted: EventsRequest, session: Session, head: bool) -> Response:
    cursors, gaps = await hub.locate(wanted)
    if not _in_memory(cursors):
        session.replay(lambda: False)
    headers = {"Gateway-Position": position_of(cursors), "Cache-Control": "no-store"}
    content = b"" if head else await read_page(wanted, cursors, gaps)
    return Response(content, headers=headers, media_type="application/json")
