"""Somebody who tries keys: so many connections a second, each with another unknown key, each closed when answered.

A process of its own, so that what it does is not in the way of the subscribers that measure.  It prints ``going`` at
its first answer, and when it is terminated its counts as JSON.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import socket
import struct
import sys
import time
from typing import cast

import uvloop

from loadtest.rig.machine import raise_file_limit

_TICK = 0.005
_MOST = 4000
"""Under way at a time: a server that answers no more is not sent more."""
# Closed with a reset: 2,000 a second in TIME_WAIT would use up the ports of an address in 14 s.
_RESET = struct.pack("ii", 1, 0)


class Flood:
    """Connects to `address`, `rate` times a second, until it is stopped."""

    def __init__(self, address: tuple[str, int], path: str, rate: float, prefix: str) -> None:
        self._address = address
        self._path = path
        self._rate = rate
        self._prefix = prefix
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopped = asyncio.Event()
        self.refused = self.other = self.failed = 0

    async def run(self) -> dict[str, float]:
        """Counts: `refused` with 401, `other` answers, `failed` without one; `seconds` it took."""
        start, begun = time.monotonic(), 0
        while not self.stopped.is_set():
            due = int((time.monotonic() - start) * self._rate) - begun
            begun += due
            for _ in range(min(due, _MOST - len(self._tasks))):
                task = asyncio.create_task(self._try())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(_TICK)
        seconds = time.monotonic() - start
        found = {"refused": self.refused, "other": self.other, "failed": self.failed, "seconds": seconds}
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return found

    def request(self) -> bytes:
        host, port = self._address
        head = f"GET {self._path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n"
        return f"{head}Authorization: Bearer {self._prefix}{secrets.token_urlsafe(32)}\r\n\r\n".encode()

    async def _try(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            try:
                await loop.sock_connect(sock, self._address)
                attempt = _Attempt(self.request())
                transport, _ = await loop.create_connection(lambda: attempt, sock=sock)
                first = await attempt.answer
                transport.abort()
            except OSError:
                self.failed += 1
                return
        if not self.refused + self.other:
            _say("going")
        if first.startswith(b"HTTP/1.1 401"):
            self.refused += 1
        else:
            self.other += 1


class _Attempt(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("closed without an answer"))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _main(host: str, port: str, path: str, rate: str, prefix: str) -> None:
    flood = Flood((host, int(port)), path, float(rate), prefix)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, flood.stopped.set)
    _say(json.dumps(await flood.run()))


if __name__ == "__main__":
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(*sys.argv[1:]))
