"""A receiver of webhooks that writes down every id and answers, late, or never. A raw protocol: it shares a core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_REFUSAL = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Listens on loopback. `seen` maps webhook ids to (times it came, when it first came, monotonic seconds)."""

    def __init__(self, delay: float = 0.0, *, hangs: bool = False) -> None:
        self.delay = delay
        self.hangs = hangs
        self.seen: dict[bytes, tuple[int, float]] = {}
        self.requests = 0
        self.refuses: Callable[[], bool] = lambda: False
        """Asked at each request: whether it is answered with 500 and not noted."""
        self.refused = 0
        self.came = asyncio.Event()
        """Set by each request that is noted."""
        self.busy = 0
        """Requests without an answer now."""
        self.most_busy = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.BaseTransport] = set()

    async def start(self) -> Receiver:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    @property
    def duplicates(self) -> int:
        return self.requests - len(self.seen)

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._transports):
            transport.close()

    def note(self, webhook_id: bytes) -> None:
        count, first = self.seen.get(webhook_id, (0, time.monotonic()))
        self.seen[webhook_id] = (count + 1, first)
        self.requests += 1
        self.came.set()


class _Connection(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._receiver._transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._receiver._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            size = int(_header(head, b"\r\ncontent-length:"))
            if len(self._buffer) < end + 4 + size:
                return
            self._buffer = self._buffer[end + 4 + size :]
            self._receiver.busy += 1
            self._receiver.most_busy = max(self._receiver.most_busy, self._receiver.busy)
            if self._receiver.refuses():
                self._receiver.refused += 1
                self._answer(_REFUSAL)
                continue
            self._receiver.note(_header(head, b"\r\nwebhook-id:"))
            if self._receiver.hangs:
                continue
            if self._receiver.delay:
                asyncio.get_running_loop().call_later(self._receiver.delay, self._answer)
            else:
                self._answer()

    def _answer(self, answer: bytes = _ANSWER) -> None:
        self._receiver.busy -= 1
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _header(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    if at < 0:
        return b"0"
    return head[at + len(name) :].partition(b"\r\n")[0].strip()
