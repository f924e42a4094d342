"""A receiver of webhooks that writes down everything, and misbehaves when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.events.jsontext import loads


@dataclass(slots=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event_id(self) -> str:
        return str(loads(self.body)["id"])

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


Answer = bytes | Callable[["Received", asyncio.StreamWriter], Awaitable[None]]


def status(code: int, headers: str = "", body: bytes = b"") -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


OK = status(204).replace(b"Content-Length: 0\r\n", b"")


@dataclass
class Receiver:
    """`answer` decides on each request: bytes to send, or a coroutine that does as it likes with the connection."""

    answer: Callable[[Received], Answer] = lambda received: OK
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> Receiver:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    @property
    def ids(self) -> list[str]:
        """Event ids (of the native envelope) in order of arrival."""
        return [received.event_id for received in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                received = Received(head[0].split()[1], headers, body, asyncio.get_running_loop().time())
                self.requests.append(received)
                answer = self.answer(received)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(received, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Held:
    """Receives, and answers when it is let go: what `answer` makes of the request, by default 200."""

    def __init__(self, receiver: Receiver, answer: Callable[[Received], bytes] = lambda received: OK) -> None:
        self.go_on = asyncio.Event()
        self._of = answer
        receiver.answer = lambda received: self._answer

    async def _answer(self, received: Received, writer: asyncio.StreamWriter) -> None:
        await self.go_on.wait()
        writer.write(self._of(received))
