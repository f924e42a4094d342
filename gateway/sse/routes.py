"""``GET /api/events``: live SSE, live NDJSON, or a page of history, by ``Accept``."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.backend.connection import UNAVAILABLE
from gateway.errors import Problem, unavailable
from gateway.sse.hub import Hub, position_of
from gateway.sse.page import read_page
from gateway.sse.request import EventsRequest, parse_request
from gateway.sse.response import StreamResponse
from gateway.stream.log import NotReady, NotServed

_MAX_PARAMETERS = 1000


def event_routes(hub: Hub, now: Callable[[], float] = time.time) -> list[Route]:
    """The route, over `hub`; `now` is Unix time in seconds."""

    async def get_events(request: Request) -> Response:
        wanted = _read(request, hub, now)
        try:
            if wanted.accept == "json":
                return await _page(hub, wanted, head=request.method == "HEAD")
            if hub.draining:
                raise unavailable("this process is shutting down", retry_after=3)
            return StreamResponse(await hub.open(wanted), hub)
        except NotServed as error:
            raise Problem(404, f"stream {error} is not served here") from None
        except NotReady as error:
            raise unavailable(str(error)) from None
        except UNAVAILABLE:
            raise unavailable("Redis cannot be reached") from None

    return [Route("/api/events", get_events, methods=["GET"], name="subscribe")]


def _read(request: Request, hub: Hub, now: Callable[[], float]) -> EventsRequest:
    try:
        query = parse_qsl(
            request.scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        raise Problem(400, f"more than {_MAX_PARAMETERS} query parameters") from None
    return parse_request(
        query,
        accept=request.headers.get("accept", ""),
        last_event_id=request.headers.get("last-event-id", ""),
        default_stream=hub.log.default_stream,
        now=now,
    )


async def _page(hub: Hub, wanted: EventsRequest, head: bool) -> Response:
    cursors, gaps = await hub.locate(wanted)
    headers = {"Gateway-Position": position_of(cursors), "Cache-Control": "no-store"}
    content = b"" if head else await read_page(wanted, cursors, gaps)
    return Response(content, headers=headers, media_type="application/json")
