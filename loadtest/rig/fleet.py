"""Many subscribers in one process, as light as they can be: a counter each, one receive buffer for all.

An event is counted by the one byte that marks its payload, so nothing is parsed and no chunk boundary matters.
Only a few subscribers, spread evenly over the order of connecting, read the time stamps.
"""

from __future__ import annotations

import asyncio
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from typing import cast

from loadtest.rig.payload import MARK, STAMP

_BUFFER = bytearray(256 << 10)
_VIEW = memoryview(_BUFFER)
_PER_ADDRESS = 20_000
"""Connections from one source address: Linux gives out about 28,000 ports per address and destination."""


class Counter(asyncio.BufferedProtocol):
    """One subscriber: sends its request, counts what comes."""

    __slots__ = ("bytes", "count", "error", "opened", "request", "transport")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.count = 0
        self.bytes = 0
        self.error: str | None = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _VIEW

    def buffer_updated(self, nbytes: int) -> None:
        if not self.opened.done():
            self._open(bytes(_VIEW[:nbytes]))
        self.bytes += nbytes
        self.count += _BUFFER.count(MARK, 0, nbytes)

    def _open(self, first: bytes) -> None:
        if first.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ConnectionError(f"no stream: {first[:600]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = repr(exc) if exc else "closed by the server"
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self.error))


class Sampler(Counter):
    """A subscriber that also notes how long each event was under way."""

    __slots__ = ("latencies", "rest")

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.latencies = array("q")
        """Nanoseconds from sending to receiving, one for each event."""
        self.rest = b""

    def buffer_updated(self, nbytes: int) -> None:
        now = time.monotonic_ns()
        super().buffer_updated(nbytes)
        text = self.rest + bytes(_VIEW[:nbytes])
        cut = text.rfind(MARK) + 1
        self.latencies.extend([now - int(sent) for sent, _ in STAMP.findall(text, 0, cut)])
        self.rest = text[cut:]


class Fleet:
    """Subscribers of one server. Use as a context manager: leaving it drops all connections."""

    def __init__(self, host: str, port: int, receive_buffer: int | None = None) -> None:
        self._address = (host, port)
        self._receive_buffer = receive_buffer
        self.members: list[Counter] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()

    def drop(self) -> None:
        """Close all connections at once."""
        for member in self.members:
            if member.transport is not None:
                member.transport.abort()
        self.members = []

    async def open(
        self,
        requests: Sequence[bytes],
        *,
        samplers: int = 0,
        at_once: int = 200,
        seconds: float = 120.0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Counter]:
        """Connect one subscriber per request, `at_once` at a time; returns when each has its response head.

        Raises `ConnectionError` when one is refused, `TimeoutError` when it takes longer than `seconds`.
        """
        every = max(1, len(requests) // samplers) if samplers else 0
        made: list[Counter] = [
            Sampler(request) if every and i % every == 0 else Counter(request) for i, request in enumerate(requests)
        ]
        first = len(self.members)
        self.members += made
        waiting = iter(enumerate(made, first))
        done = 0

        async def connect() -> None:
            nonlocal done
            for index, member in waiting:
                await self._connect(member, index)
                await member.opened
                done += 1
                progress(done)

        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(made))):
                    group.create_task(connect())
        except* OSError as failed:
            raise ConnectionError(f"{done} of {len(made)} connected, then: {failed.exceptions[0]}") from None
        return made

    async def _connect(self, member: Counter, index: int) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if self._receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            if index >= _PER_ADDRESS:
                sock.bind((f"127.0.0.{2 + index // _PER_ADDRESS}", 0))
            await loop.sock_connect(sock, self._address)
            await loop.create_connection(lambda: member, sock=sock)
        except BaseException:
            sock.close()
            raise

    def counts(self) -> list[int]:
        return [member.count for member in self.members]

    def total(self) -> int:
        return sum(member.count for member in self.members)

    def bytes(self) -> int:
        return sum(member.bytes for member in self.members)

    def lost_connections(self) -> int:
        return sum(member.error is not None for member in self.members)

    def forget_latencies(self) -> None:
        """Start a new sample."""
        for member in self.members:
            if isinstance(member, Sampler):
                del member.latencies[:]

    def latencies(self, members: Sequence[Counter] | None = None) -> list[float]:
        """Milliseconds, of all samplers (or of those among `members`) since `forget_latencies`."""
        return [
            ns / 1e6
            for member in (self.members if members is None else members)
            if isinstance(member, Sampler)
            for ns in member.latencies
        ]
