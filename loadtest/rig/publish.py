"""Ways to publish: write now, count the answers later. Raw protocols, because the publisher shares a core."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, cast

import hiredis

from loadtest.rig.payload import payload
from loadtest.rig.wait import until


class Publisher(Protocol):
    """Sends payloads to a server. Each one is written at once; `settle` waits for the answers."""

    sent: int
    answered: int

    def send(self, data: bytes, channel: str = "load") -> None: ...

    def close(self) -> None: ...


class _Wire(asyncio.Protocol):
    """A connection whose answers are counted by a subclass."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.error: str | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=64 << 20)

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or repr(exc)

    def write(self, data: bytes) -> None:
        if self.transport is None or self.error is not None:
            raise ConnectionError(f"the publisher has lost its connection: {self.error}")
        self.sent += 1
        self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class RedisPublisher(_Wire):
    """XADD on a connection of its own."""

    def __init__(self, stream: str = "events", type_: str = "load.tick") -> None:
        super().__init__()
        self._reader = hiredis.Reader()
        self._head = _bulk("XADD", stream, "*", "type", type_, "data")

    def send(self, data: bytes, channel: str = "load") -> None:
        self.write(
            b"*9\r\n%b$%d\r\n%b\r\n%b" % (self._head, len(data), data, _bulk("channel", channel)),
        )

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, Exception):
                self.error = str(reply)
            self.answered += 1


class PostPublisher(_Wire):
    """POST on one kept-alive connection, pipelined (RFC 9112 section 9.3.2)."""

    def __init__(self, path: Callable[[str], str]) -> None:
        super().__init__()
        self._path = path

    def send(self, data: bytes, channel: str = "load") -> None:
        head = f"POST {self._path(channel)} HTTP/1.1\r\nHost: loadtest\r\nContent-Length: {len(data)}\r\n\r\n"
        self.write(head.encode() + data)

    def data_received(self, data: bytes) -> None:
        self.answered += data.count(b"HTTP/1.1 20")
        if b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data:
            self.error = repr(data[:200])


class FramePublisher(_Wire):
    """Length (32 bits, little endian) and frame, for the C floor, which answers nothing."""

    def __init__(self, frame: Callable[[int, bytes], bytes]) -> None:
        super().__init__()
        self._frame = frame

    def send(self, data: bytes, channel: str = "load") -> None:
        frame = self._frame(self.sent, data)
        self.write(len(frame).to_bytes(4, "little") + frame)
        self.answered += 1


def _bulk(*words: str) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)


async def pace(
    publisher: Publisher,
    *,
    rate: float,
    seconds: float,
    size: int,
    first: int = 0,
    channels: Callable[[int], str] = lambda number: "load",
) -> int:
    """Publish `rate` events a second for `seconds`, on a fixed schedule: what is late is sent at once, not left out.

    Returns how many were sent.
    """
    count = max(1, round(rate * seconds))
    start = time.monotonic()
    done = 0
    while done < count:
        due = min(count, int((time.monotonic() - start) * rate) + 1)
        for number in range(first + done, first + due):
            publisher.send(payload(number, size), channels(number))
        done = due
        if time.monotonic() - start > seconds * 2 + 5:
            break
        await asyncio.sleep(max(0.0, start + done / rate - time.monotonic()) if done < count else 0)
    return done


async def settle(publisher: Publisher, seconds: float = 10.0) -> bool:
    """Wait until everything sent has been answered; False when that takes longer than `seconds`."""
    return await until(lambda: publisher.answered >= publisher.sent, seconds)


async def fill(publisher: Publisher, count: int, size: int, *, first: int = 0, pending: int = 2000) -> None:
    """Publish `count` events as fast as they are answered, at most `pending` under way. Raises `TimeoutError`."""
    for number in range(first, first + count):
        publisher.send(payload(number, size))
        if publisher.sent - publisher.answered >= pending:
            await _answered(publisher, pending // 2)
    await _answered(publisher, 0)


async def _answered(publisher: Publisher, pending: int) -> None:
    if not await until(lambda: publisher.sent - publisher.answered <= pending, 30, every=0.001):
        raise TimeoutError("the server stopped answering the publisher")
