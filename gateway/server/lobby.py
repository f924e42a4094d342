"""Where connections wait while many bad requests come: turned away here they cost a fifth of what they cost inside."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

from gateway.access.gate import Gate
from gateway.access.head import Head, Headers
from gateway.errors import CONTENT_TYPE, Problem

TurnAway = Callable[[Head], Problem | None]
"""The answer to a request that is refused by its head alone, or None."""
_END = b"\r\n\r\n"
_BEGUN = re.compile(rb"[A-Z]+(?: [^\n]*(?:(?<=\r)\n[^\n]*)*)?").fullmatch
"""What may still become a request."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
"""A token of RFC 9110, section 5.6.2."""


class Lobby(asyncio.Protocol):
    """Reads the head of a connection's first request; one that is not turned away goes to a protocol of `make`.

    The bytes it has read go with it, so that protocol is the one that parses: what this cannot read, it passes on.
    """

    request_timeout = 10.0
    max_header_bytes = 32 << 10

    def __init__(
        self,
        turn_away: TurnAway,
        make: Callable[[], asyncio.Protocol],
        server_state: Any,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._turn_away = turn_away
        self._make = make
        self._state = server_state
        self._loop = loop
        self._heard = b""
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock."""
        self._transport = cast(asyncio.Transport, transport)
        self._deadline = self._loop.call_later(self.request_timeout, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone, before it has said what it wants."""
        self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Wait for the end of the head."""
        if self._refused:
            return  # the rest of a body that nobody wants
        self._heard += data
        end = self._heard.find(_END)
        if end < 0 and len(self._heard) <= self.max_header_bytes and _BEGUN(self._heard):
            return
        head = read_head(self._heard[:end], self._transport) if 0 <= end <= self.max_header_bytes else None
        problem = self._turn_away(head) if head is not None else None
        if head is None or problem is None:
            self._hand_over()
            return
        self._transport.write(self._answer(problem, head))
        if head.method == "GET" and len(self._heard) == end + len(_END):
            self._transport.close()
            return
        # What a client is still sending when a connection is closed makes it lose the answer: it closes, or the clock.
        self._refused = True
        self._heard = b""

    def _hand_over(self) -> None:
        self._deadline.cancel()
        protocol = self._make()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._heard)

    def _answer(self, problem: Problem, head: Head) -> bytes:
        date = b"".join(b"%b: %b\r\n" % pair for pair in self._state.default_headers)
        return _render(problem.status, problem.detail, tuple(problem.headers.items()), date, head.method == "HEAD")


def behind_lobby(http1: type[asyncio.Protocol], lobby: type[Lobby], gate: Gate) -> Any:
    """What makes the protocol of a connection: `http1`, and a `lobby` in front of it while `gate` refuses many."""

    def make(**arguments: Any) -> asyncio.Protocol:
        made: Callable[[], asyncio.Protocol] = partial(http1, **arguments)
        if not gate.attempts.many:
            return made()
        return lobby(gate.turn_away, made, arguments["server_state"], asyncio.get_running_loop())

    return make


@lru_cache(maxsize=64)
def _render(status: int, detail: str, headers: tuple[tuple[str, str], ...], more: bytes, bare: bool) -> bytes:
    body = Problem(status, detail).body()
    named = {**dict(headers), "content-type": CONTENT_TYPE, "content-length": str(len(body)), "connection": "close"}
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in named.items()).encode("latin-1")
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    return first + more + lines + b"\r\n" + (b"" if bare else body)


def read_head(raw: bytes, transport: asyncio.BaseTransport) -> Head | None:
    """The head of an HTTP/1.1 request as far as access needs it; None for what only a real parser should judge."""
    first, *lines = raw.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not words[1].startswith(b"/"):
        return None
    headers: Headers = []
    for line in lines:
        name, _, value = line.partition(b":")
        if not _NAME(name):
            return None
        headers.append((name.lower(), value.strip(b" \t")))
    path, _, query = words[1].partition(b"?")
    address = transport.get_extra_info("peername")
    peer = address[0] if isinstance(address, tuple) else None
    return Head(words[0].decode("latin-1"), unquote(path.decode("latin-1")), query, headers, peer)
