"""HTTP/1.1 by hand: exactly these bytes out, exactly those bytes in."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

_TIMEOUT = 20.0


class Head(NamedTuple):
    """A status line and headers, in order, as they came."""

    status: int
    lines: list[bytes]

    def get(self, name: str) -> str | None:
        """The value of a header that may come once."""
        found = [line.partition(b":")[2].strip() for line in self.lines if _name(line) == name.lower().encode()]
        assert len(found) <= 1, f"{name} came {len(found)} times"
        return found[0].decode("latin-1") if found else None

    def names(self) -> list[str]:
        """Names in lower case, in order."""
        return [_name(line).decode() for line in self.lines]


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


class Answer(NamedTuple):
    """A whole response."""

    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, port: int, timeout: float = _TIMEOUT) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Write."""
        self.socket.sendall(data)

    def head(self) -> Head:
        """The next status line and headers, up to and with the empty line; strict about CRLF."""
        lines: list[bytes] = []
        while True:
            line = self._file.readline(65_537)
            assert line.endswith(b"\r\n"), f"a header line ends in {line[-20:]!r}"
            if line == b"\r\n":
                break
            assert b"\r" not in line[:-2] and b"\0" not in line
            lines.append(line[:-2])
        match = re.fullmatch(rb"HTTP/1\.1 ([0-9]{3}) [ -~]*", lines[0])
        assert match, lines[0]
        return Head(int(match[1]), lines[1:])

    def read(self, size: int) -> bytes:
        """The next so many bytes."""
        return self._file.read(size)

    def chunk(self) -> bytes:
        """The next chunk of a chunked body (RFC 9112, section 7.1); empty for the last one."""
        size_line = self._file.readline(64)
        assert re.fullmatch(rb"[0-9a-fA-F]+\r\n", size_line), size_line
        size = int(size_line, 16)
        content = self._file.read(size)
        assert len(content) == size, "the connection ended inside a chunk"
        assert self._file.read(2) == b"\r\n"
        return content

    def answer(self, method: str = "GET") -> Answer:
        """The next whole response."""
        head = self.head()
        if method == "HEAD" or head.status in (204, 304):
            return Answer(head, b"")
        assert head.get("content-type") != "text/event-stream; charset=utf-8", "a stream has no end to wait for"
        if head.get("transfer-encoding") == "chunked":
            return Answer(head, b"".join(iter(self.chunk, b"")))
        length = head.get("content-length")
        return Answer(head, self._file.read() if length is None else self._file.read(int(length)))

    def rest(self) -> bytes:
        """Everything until the other side closes; a reset counts as that."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Close."""
        self._file.close()
        self.socket.close()


@contextmanager
def connected(port: int, timeout: float = _TIMEOUT) -> Iterator[Wire]:
    """A connection for a ``with`` block."""
    wire = Wire(port, timeout)
    try:
        yield wire
    finally:
        wire.close()


def request(method: str, target: str, *headers: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """The bytes of a request with Host and, for a body, Content-Length."""
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(port: int, method: str, target: str, *headers: str, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    with connected(port) as wire:
        wire.send(request(method, target, *headers, body=body))
        return wire.answer(method)


@contextmanager
def subscribed(port: int, target: str = "/api/events", *headers: str) -> Iterator[tuple[Wire, Head]]:
    """An open subscription whose head has been read."""
    with connected(port) as wire:
        wire.send(request("GET", target, *headers))
        yield wire, wire.head()
