"""What goes over the wire: SSE blocks (WHATWG HTML, section 9.2) and NDJSON lines.

Rules that clients taught us (research/clients_and_proxies.md): no block without ``data:``, because httpx-sse and
fetch-event-source make an empty message of it; ``retry`` and comments are never followed by a blank line of their
own; ``id`` comes after ``data``, because a client that takes the id first loses the event when the cut falls between.
Field values cannot hold CR, LF or NUL: see `gateway.events.rules` and `gateway.events.jsontext`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import orjson

from gateway.events.envelope import ENCODERS
from gateway.events.event import Event
from gateway.events.position import format_id
from gateway.stream.gap import Gap

Representation = Literal["sse", "ndjson"]

_CACHED = 20_000
_CACHED_BYTES = 32 << 20


class Wire(Protocol):
    """How events become bytes. `position` is the id that a client resumes with after this block."""

    content_type: str
    heartbeat: bytes
    representation: Representation

    def opening(self, retry_ms: int) -> bytes: ...
    def body(self, event: Event, remember: bool) -> bytes: ...
    def identify(self, body: bytes, position: str) -> bytes: ...
    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes: ...


class _Memo:
    """Bodies of recent events, oldest out first: the same event goes to many subscribers."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[str, int], bytes] = {}
        self._bytes = 0

    def get(self, event: Event) -> bytes | None:
        return self._bodies.get((event.stream, event.id))

    def put(self, event: Event, body: bytes) -> None:
        bodies = self._bodies
        bodies[event.stream, event.id] = body
        self._bytes += len(body)
        while len(bodies) > _CACHED or self._bytes > _CACHED_BYTES:
            self._bytes -= len(bodies.pop(next(iter(bodies))))


class _Encoding:
    def __init__(self, format_: str) -> None:
        self._encode = ENCODERS[format_]
        self._memo = _Memo()

    def body(self, event: Event, remember: bool) -> bytes:
        """All of the block but its position; kept for the next subscriber when `remember`."""
        body = self._memo.get(event)
        if body is None:
            body = self._render(event)
            if remember:
                self._memo.put(event, body)
        return body

    def _render(self, event: Event) -> bytes:
        raise NotImplementedError


class SseWire(_Encoding):
    """``event: <type>``, ``data: <one line>``, ``id: <position>``, blank line; without ``event`` unless `named`."""

    content_type = "text/event-stream; charset=utf-8"
    heartbeat = b":\n"
    representation: Representation = "sse"

    def __init__(self, format_: str = "native", named: bool = True) -> None:
        super().__init__(format_)
        self._named = named

    def opening(self, retry_ms: int) -> bytes:
        """``retry`` and a comment, so that proxies and ``onopen`` see a byte at once."""
        return b"retry: %d\n: gateway\n" % retry_ms

    def _render(self, event: Event) -> bytes:
        if self._named:
            return b"event: %b\ndata: %b\nid: " % (event.type.encode(), self._encode(event))
        return b"data: %b\nid: " % self._encode(event)

    def identify(self, body: bytes, position: str) -> bytes:
        """The whole block."""
        return b"%b%b\n\n" % (body, position.encode())

    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes:
        """A control event: always named. `retry_ms` sets the reconnect delay anew."""
        retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
        return b"%bevent: %b\ndata: %b\nid: %b\n\n" % (retry, name.encode(), orjson.dumps(data), position.encode())


class NdjsonWire(_Encoding):
    """One envelope a line; control events are ``{"control","id","data"}``; a heartbeat is an empty line."""

    content_type = "application/x-ndjson"
    heartbeat = b"\n"
    representation: Representation = "ndjson"

    def opening(self, retry_ms: int) -> bytes:
        """An empty line, so that proxies see a byte at once."""
        return b"\n"

    def _render(self, event: Event) -> bytes:
        return self._encode(event) + b"\n"

    def identify(self, body: bytes, position: str) -> bytes:
        """The line: an NDJSON event carries its id inside."""
        return body

    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes:
        """A control line."""
        return orjson.dumps({"control": name, "id": position, "data": data}) + b"\n"


def describe_gap(gap: Gap) -> dict[str, str]:
    """The data of ``gateway.gap``."""
    return {
        "stream": gap.stream,
        "requested": format_id(gap.requested),
        "resumed_at": format_id(gap.id),
        "reason": gap.reason,
    }


class Wires:
    """One `Wire` for each (representation, format, named) in use, so that its memo is shared."""

    def __init__(self) -> None:
        self._wires: dict[tuple[Representation, str, bool], Wire] = {}

    def get(self, representation: Representation, format_: str, named: bool) -> Wire:
        """The shared wire."""
        key = (representation, format_, named)
        wire = self._wires.get(key)
        if wire is None:
            wire = SseWire(format_, named) if representation == "sse" else NdjsonWire(format_)
            self._wires[key] = wire
        return wire
