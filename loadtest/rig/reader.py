"""A subscriber that reads what it gets: HTTP through httptools, then Server-Sent Events (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable
from typing import Any, cast

import httptools

_END = re.compile(rb"\n\n")


class Reader(asyncio.Protocol):
    """One connection. `on_event` gets the data of each event; `last_id` is where to resume."""

    def __init__(self, request: bytes, on_event: Callable[[bytes], None], last_id: str | None = None) -> None:
        self.request = request
        self.last_id = last_id
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.transport: asyncio.Transport | None = None
        self._on_event = on_event
        self._rest = b""
        self._http: Any = httptools.HttpResponseParser(self)

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        request: bytes,
        on_event: Callable[[bytes], None],
        last_id: str | None = None,
        receive_buffer: int | None = None,
    ) -> Reader:
        """Connect and send the request. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await loop.sock_connect(sock, address)
            reader = cls(request, on_event, last_id)
            await loop.create_connection(lambda: reader, sock=sock)
        except BaseException:
            sock.close()
            raise
        return reader

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.closed.done():
            self._http.feed_data(data)

    def on_headers_complete(self) -> None:
        self.status = self._http.get_status_code()
        if not self.opened.done():
            self.opened.set_result(None)

    def on_body(self, body: bytes) -> None:
        if self.status != 200 or self.closed.done():
            return
        *blocks, self._rest = _END.split(self._rest + body)
        for block in blocks:
            self._block(block)

    def _block(self, block: bytes) -> None:
        data: list[bytes] = []
        event_id: bytes | None = None
        name = b""
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"id":
                event_id = value.removeprefix(b" ")
            elif field == b"event":
                name = value.removeprefix(b" ")
        if event_id is not None:
            self.last_id = event_id.decode()
        if data and not name.startswith(b"gateway."):
            self._on_event(b"\n".join(data))

    def cut(self) -> None:
        """Drop the connection now; nothing that has not been parsed yet counts."""
        if not self.closed.done():
            self.closed.set_result(None)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
