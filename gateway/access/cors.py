"""Pages of other origins (the Fetch standard's CORS protocol): who may read our answers in a browser.

Plain ASGI, because frameworks' middlewares break streams.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_METHODS: Final = b"GET, HEAD, POST, PATCH, DELETE"
_HEADERS: Final = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Cache-Control"
_EXPOSED: Final = (b"access-control-expose-headers", b"Gateway-Position, Retry-After, WWW-Authenticate")
_MAX_AGE: Final = b"600"


class Origins:
    """Those that were named; ``*`` stands for all, and then without credentials."""

    def __init__(self, named: Collection[str]) -> None:
        self.any = "*" in named
        self._named = frozenset(origin.lower() for origin in named if origin != "*")

    def __contains__(self, origin: str) -> bool:
        return self.any or origin.lower() in self._named

    def __bool__(self) -> bool:
        return self.any or bool(self._named)

    def trusts(self, origin: str) -> bool:
        """Whether it was named, so that its pages may act with the user's cookie."""
        return origin.lower() in self._named

    def marks(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """The headers that tell the browser of a page of `origin` whether it may read the answer."""
        marks = [(b"vary", b"Origin")] if self else []
        if origin is None or origin not in self:
            return marks
        if not self.trusts(origin):
            return [*marks, (b"access-control-allow-origin", b"*"), _EXPOSED]
        allowed = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [*marks, allowed, (b"access-control-allow-credentials", b"true"), _EXPOSED]


class Cors:
    """Around `app`: answers preflights, and tells browsers which origins may read."""

    def __init__(self, app: App, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))  # of two of a name the first counts, here as elsewhere
        origin = headers.get(b"origin")
        marks = self._origins.marks(None if origin is None else origin.decode("latin-1"))
        if origin is not None and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _preflight(send, marks)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *marks]
            await send(message)

        await self._app(scope, receive, send_marked)


async def _preflight(send: Send, marks: list[tuple[bytes, bytes]]) -> None:
    headers = [*marks, (b"content-length", b"0")]
    allowed = len(marks) > 1  # a refusal varies with the origin too; browsers need no more
    if allowed:
        headers += [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]
    await send({"type": "http.response.start", "status": 204 if allowed else 403, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
