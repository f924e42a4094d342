"""``GET /api/events`` in the application: live SSE, live NDJSON, or a page of history, by ``Accept``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.sse.door import PATH, Door

Handler = Callable[[Request, Exception], Awaitable[Response]]


def event_routes(door: Door) -> list[Route]:
    """The route, through `door`."""
    return [Route(PATH, door.answer, methods=["GET"], name="subscribe")]


class Express:
    """Middleware: takes ``GET /api/events`` past the framework's own layers, straight to `door`.

    A tenth of what a connect costs here, when it cannot be had at once.  `errors` turns what the door raises into the
    answer that the layers would have given.
    """

    def __init__(self, app: ASGIApp, door: Door, errors: Mapping[type[Exception], Handler]) -> None:
        self._app = app
        self._door = door
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._door.answer(request)
        except tuple(self._errors) as error:
            handler = next(self._errors[kind] for kind in self._errors if isinstance(error, kind))
            response = await handler(request, error)
        await response(scope, receive, send)
