"""A raw client for ``GET /api/events``: every byte is recorded, and it can be cut, reset or stalled at any of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import httptools

from tests.support.wait import PATIENCE, wait_until
from tests.support.whatwg import EventSourceParser, Message

Query = Mapping[str, str] | Sequence[tuple[str, str]]


class EventStream(asyncio.Protocol):
    """One request and its response. Open it with `subscribe`.

    `cut_after` is how many bytes of body it takes before it resets the connection; what lies behind is thrown away.
    """

    def __init__(self, request: bytes, last_event_id: str, cut_after: int | None) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.writes: list[bytes] = []
        """The chunks of the response body, as the server framed them."""
        self.parser = EventSourceParser(last_event_id)
        self.complete = False
        """Whether the response came to its proper end."""
        self.closed = asyncio.Event()
        self.began = asyncio.Event()
        self._request = request
        self._cut_after = cut_after
        self._http = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None

    @property
    def messages(self) -> list[Message]:
        """All that a browser would have dispatched."""
        return self.parser.messages

    @property
    def events(self) -> list[Message]:
        """Messages that are not the gateway's own."""
        return [message for message in self.messages if not message.type.startswith("gateway.")]

    def controls(self, name: str = "") -> list[Message]:
        """The gateway's own messages, those of one name (without ``gateway.``) or all."""
        return [message for message in self.messages if message.type.startswith("gateway." + name)]

    def control(self, name: str) -> dict[str, Any]:
        """The data of the only control event of this name."""
        (message,) = [message for message in self.messages if message.type == "gateway." + name]
        data: dict[str, Any] = json.loads(message.data)
        return data

    @property
    def names(self) -> list[str]:
        """The types of all messages, in order."""
        return [message.type for message in self.messages]

    @property
    def position(self) -> str:
        """What a reconnect would send as ``Last-Event-ID``."""
        return self.parser.last_event_id

    async def has(self, count: int, patience: float = PATIENCE) -> list[Message]:
        """Wait for so many events; answer them."""
        await wait_until(lambda: len(self.events) >= count or self.closed.is_set(), f"{count} events", patience)
        assert len(self.events) >= count, f"closed after {len(self.events)} of {count} events"
        return self.events

    async def told(self, name: str, count: int = 1, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for control event `name` (without ``gateway.``) to come `count` times; answer the data of the last."""
        full = "gateway." + name
        seen = lambda: f"{count} {full} in {self.names[-20:]}"  # noqa: E731
        await wait_until(lambda: self.names.count(full) >= count, seen, patience)
        data: dict[str, Any] = json.loads([message.data for message in self.messages if message.type == full][-1])
        return data

    async def until_closed(self, patience: float = PATIENCE) -> None:
        """Wait for the end of the connection."""
        async with asyncio.timeout(patience):
            await self.closed.wait()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def stall(self) -> None:
        """Stop reading; the socket stays open."""
        self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self.transport.resume_reading()

    def cut(self) -> None:
        """Close the connection."""
        self.transport.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        with contextlib.suppress(OSError):
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.abort()
        await self.until_closed()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self._http.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self.began.set()

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._http.get_status_code()
        self.began.set()

    def on_body(self, body: bytes) -> None:
        if self._cut_after is not None:
            body = body[: self._cut_after - len(self.body)]
        self.writes.append(body)
        self.body += body
        self.parser.feed(body)
        if self._cut_after is not None and len(self.body) >= self._cut_after:
            self.reset()

    def on_message_complete(self) -> None:
        self.complete = True


async def subscribe(
    url: str,
    query: Query = (),
    *,
    last_event_id: str = "",
    headers: Mapping[str, str] | None = None,
    cut_after: int | None = None,
    method: str = "GET",
    path: str = "/api/events",
    receive_buffer: int | None = None,
) -> EventStream:
    """Send the request; answer when the head of the response is here (or the connection ended before it).

    `receive_buffer` is SO_RCVBUF in bytes: with a small one the server feels a stall early.
    """
    where = urlsplit(url)
    fields = {"Host": where.netloc, "Accept": "text/event-stream", **(headers or {})}
    if last_event_id:
        fields["Last-Event-ID"] = last_event_id
    pairs = list(query.items()) if isinstance(query, Mapping) else list(query)
    target = path + ("?" + urlencode(pairs) if pairs else "")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    stream = EventStream("\r\n".join(lines).encode("latin-1"), last_event_id, cut_after)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (where.hostname or "", where.port or 80))
    except OSError:
        sock.close()
        raise
    await loop.create_connection(lambda: stream, sock=sock)
    async with asyncio.timeout(PATIENCE):
        await stream.began.wait()
    return stream
