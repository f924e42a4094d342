"""The streaming response: by the direct lane where the server gives its connection, else by sse-starlette's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus, SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.sse.connection import EXTENSION, Connection
from gateway.sse.ending import DISCONNECTED, FAILED, SLOW, Ending
from gateway.sse.hub import Hub
from gateway.sse.subscriber import Subscriber, pull

# Draining is ours (`Hub.drain`): sse-starlette would cut every stream in one tick, without a farewell.
AppStatus.enable_automatic_graceful_drain = False


_HEAD = ((b"cache-control", b"no-store, no-transform"), (b"x-accel-buffering", b"no"))


def stream_headers(subscriber: Subscriber) -> list[tuple[bytes, bytes]]:
    """The headers of a stream."""
    return [
        (b"content-type", subscriber.key.wire.content_type),
        *_HEAD,
        (b"gateway-position", subscriber.position.encode()),
    ]


class StreamResponse(Response):
    """Streams `subscriber` until it ends or the client goes away. HEAD gets the headers alone.

    `write_timeout` in seconds is how long a client may take no byte.
    """

    def __init__(self, subscriber: Subscriber, hub: Hub, write_timeout: float) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = stream_headers(subscriber)
        self._subscriber = subscriber
        self._hub = hub
        self._write_timeout = write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the response; over the direct lane it returns when the head is sent."""
        connection: Connection | None = scope.get("extensions", {}).get(EXTENSION)
        if connection is None or scope["method"] == "HEAD":
            await self._stream(scope, receive, send)
        else:
            connection.cork()
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                self._hub.adopt(self._subscriber, connection)
            finally:
                connection.uncork()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = _Pulled(pull(self._subscriber), self.raw_headers, self._write_timeout)
        if scope["method"] == "HEAD":
            await response(scope, receive, send)
            return
        ending: Ending = DISCONNECTED
        self._hub.enter(self._subscriber)
        try:
            await response(scope, receive, send)
            ending = self._subscriber.ending or DISCONNECTED
        except SendTimeoutError:
            # Raised on to the server, so that it cuts the connection.
            ending = SLOW
            raise
        except Exception:
            ending = FAILED
            raise
        finally:
            self._hub.leave(self._subscriber, ending)


class _Pulled(EventSourceResponse):
    """sse-starlette's loop over blocks. Heartbeats and goodbyes are the subscriber's."""

    def __init__(self, blocks: AsyncIterator[bytes], headers: list[tuple[bytes, bytes]], write_timeout: float) -> None:
        super().__init__(blocks, ping=0, send_timeout=write_timeout)
        # Not sse-starlette's own: its Connection header says nothing in HTTP/1.1 and is forbidden in HTTP/2
        # (RFC 9113, section 8.2.2).
        self.raw_headers = headers

    @staticmethod
    async def _listen_for_exit_signal() -> None:
        await asyncio.Event().wait()
