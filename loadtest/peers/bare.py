"""A bare ASGI app that opens a stream and says nothing more: what uvicorn itself costs for a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from loadtest.peers import naive


def app() -> Callable[..., Awaitable[None]]:
    """The application, for ``uvicorn --factory``."""

    async def serve(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"retry: 3000\n:\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    return serve


class Server(naive.Server):
    name = "bare"
    about = "a bare ASGI app that opens the stream and waits, under the same uvicorn"
    can = frozenset({"idle"})
    target = "loadtest.peers.bare:app"
