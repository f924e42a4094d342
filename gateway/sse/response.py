"""The streaming response: by the direct lane where the server gives its connection, else by sse-starlette's loop."""

from __future__ import annotations

import asyncio

from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.types import Receive, Scope, Send

from gateway.sse.connection import EXTENSION, Connection
from gateway.sse.ending import DISCONNECTED, FAILED, Ending
from gateway.sse.hub import Hub
from gateway.sse.subscriber import Subscriber, pull

# Draining is ours (`Hub.drain`): sse-starlette would cut every stream in one tick, without a farewell.
AppStatus.enable_automatic_graceful_drain = False


class StreamResponse(EventSourceResponse):
    """Streams `subscriber` until it ends or the client goes away. HEAD gets the headers alone."""

    def __init__(self, subscriber: Subscriber, hub: Hub) -> None:
        super().__init__(
            pull(subscriber),
            headers={
                "Cache-Control": "no-store, no-transform",
                "Gateway-Position": subscriber.position,
                "Content-Type": subscriber.key.wire.content_type,
            },
            # Heartbeats and goodbyes are the subscriber's.
            ping=0,
        )
        # sse-starlette sends it; it says nothing in HTTP/1.1 and is forbidden in HTTP/2 (RFC 9113, section 8.2.2).
        del self.headers["connection"]
        self._subscriber = subscriber
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the response; over the direct lane it returns when the head is sent."""
        connection: Connection | None = (scope.get("extensions") or {}).get(EXTENSION)
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
        elif connection is None:
            await self._stream(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._hub.adopt(self._subscriber, connection)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        ending: Ending = DISCONNECTED
        self._hub.enter(self._subscriber)
        try:
            await super().__call__(scope, receive, send)
            ending = self._subscriber.ending or DISCONNECTED
        except asyncio.CancelledError:
            raise
        except BaseException:
            ending = FAILED
            raise
        finally:
            self._hub.leave(self._subscriber, ending)

    @staticmethod
    async def _listen_for_exit_signal() -> None:
        await asyncio.Event().wait()
