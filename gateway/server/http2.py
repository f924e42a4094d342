"""HTTP/2 (RFC 9113) by uvicorn's zttp protocol, with what it lacks: a bound on what a slow stream may hold.

zttp parks a body in memory until the client's flow-control window allows it, and tells nobody.  A client that reads
one of its streams slowly would grow our memory without end; so a send waits until little is parked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_PARKED = 65_536
"""Bytes that may wait for a stream's window before the next send waits."""

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


def make_protocol(http1: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """A protocol that chooses by ALPN: `http1`, or HTTP/2 with back-pressure. Needs the extra ``http2``."""
    from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
    from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

    class Http2Protocol(ZttpH2Protocol):
        """Wakes senders when the client has taken something."""

        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self._moved = asyncio.Event()
            self._inner = self.app
            self.app = self._guarded

        async def _guarded(self, scope: Any, receive: Any, send: Any) -> None:
            cycle = send.__self__

            async def guarded_send(message: Message) -> None:
                if message.get("body"):
                    while cycle.stream.pending_bytes > _PARKED and not cycle.disconnected:
                        await self._moved.wait()
                await send(message)

            await self._inner(scope, receive, guarded_send)

        def data_received(self, data: bytes) -> None:
            """What comes may be a WINDOW_UPDATE, or the end of a stream."""
            super().data_received(data)
            self._wake()

        def connection_lost(self, exc: Exception | None) -> None:
            """Nobody waits for a client that is gone."""
            super().connection_lost(exc)
            self._wake()

        def _wake(self) -> None:
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    class ServedProtocol(AutoZttpProtocol):
        """HTTP/1.1 keeps the direct lane."""

        def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
            chosen: Any = Http2Protocol if http2 else http1
            protocol = chosen(
                config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop
            )
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            if initial_data:
                protocol.data_received(initial_data)

    return ServedProtocol
