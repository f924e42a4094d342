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
_EXPOSED: Final = b"Gateway-Position, Retry-After, WWW-Authenticate"
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
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        preflight = scope["method"] == "OPTIONS" and b"access-control-request-method" in headers
        allowed = self._allowed(origin)
        if origin is not None and preflight:
            await _preflight(send, allowed)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowed, (b"vary", b"Origin")]
                if allowed:
                    message["headers"].append((b"access-control-expose-headers", _EXPOSED))
            await send(message)

        await self._app(scope, receive, send_marked)

    def _allowed(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        if origin is None:
            return []
        text = origin.decode("latin-1")
        if self._origins.trusts(text):
            return [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
        return [(b"access-control-allow-origin", b"*")] if self._origins.any else []


async def _preflight(send: Send, allowed: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"vary", b"Origin"), (b"content-length", b"0"), *allowed]
    if allowed:
        headers += [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _HEADERS),
            (b"access-control-max-age", _MAX_AGE),
        ]
    # A refusal has no marks at all; browsers need no more.
    await send({"type": "http.response.start", "status": 204 if allowed else 403, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
