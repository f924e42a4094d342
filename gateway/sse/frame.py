"""What goes over the wire: SSE blocks (WHATWG HTML, section 9.2) and NDJSON lines.

Rules that clients taught us (research/clients_and_proxies.md): no block without ``data:``, because httpx-sse and
fetch-event-source make an empty message of it; ``retry`` and comments are never followed by a blank line of their
own; ``id`` comes after ``data``, because a client that takes the id first loses the event when the cut falls between.
Field values cannot hold CR, LF or NUL: see `gateway.events.rules` and `gateway.events.jsontext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from gateway.events.envelope import ENCODERS
from gateway.events.event import Event
from gateway.events.position import EventId, format_id
from gateway.stream.gap import Gap

Representation = Literal["sse", "ndjson"]

Renderer = Callable[[Event], bytes]


class Memory(NamedTuple):
    """How much of each stream's recent events a wire keeps rendered: that of the window is right."""

    events: int = 20_000
    size: int = 32 << 20


class Wire(Protocol):
    """How events become bytes. `position` is the id that a client resumes with after this block."""

    content_type: str
    heartbeat: bytes
    representation: Representation

    def opening(self, retry_ms: int) -> bytes: ...
    def blocks(self, stream: str) -> Renderer: ...
    def block(self, event: Event) -> bytes: ...
    def bodies(self, stream: str) -> Renderer: ...
    def body(self, event: Event) -> bytes: ...
    def identify(self, body: bytes, position: str) -> bytes: ...
    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes: ...


class Recent:
    """`render`, with what it made of recent events kept: the same event goes to many subscribers.

    Two generations, the older dropped whole when the younger is full: a queue kept in a dict would walk over its own
    holes to find the oldest entry (measured: 25 us an event at 200,000 entries).  At most twice `events` and `size`
    bytes are kept.
    """

    def __init__(self, render: Renderer, events: int, size: int) -> None:
        self._render = render
        self._events = events
        self._size = size
        self._young: dict[EventId, tuple[Event, bytes]] = {}
        self._old: dict[EventId, tuple[Event, bytes]] = {}
        self._bytes = 0

    def __call__(self, event: Event) -> bytes:
        """The same as `render(event)`."""
        event_id = event.id
        kept = self._young.get(event_id) or self._old.get(event_id)
        # The very event, not one with its id: a stream that was recreated may use the same ids again.
        if kept is not None and kept[0] is event:
            return kept[1]
        rendered = self._render(event)
        if len(self._young) >= self._events or self._bytes >= self._size:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[event_id] = (event, rendered)
        self._bytes += len(rendered)
        return rendered


class _Encoding:
    """What both wires share: memoised rendering, for each stream apart."""

    _MOST_STREAMS = 256

    def __init__(self, format_: str, memory: Memory) -> None:
        self._encode = ENCODERS[format_]
        self._memory = memory
        self._blocks: dict[str, Recent] = {}
        self._bodies: dict[str, Recent] = {}

    def blocks(self, stream: str) -> Renderer:
        """`block` for the events of `stream`, memoised."""
        return self._recent(self._blocks, stream, self.block)

    def bodies(self, stream: str) -> Renderer:
        """`body` for the events of `stream`, memoised."""
        return self._recent(self._bodies, stream, self.body)

    def block(self, event: Event) -> bytes:
        """The whole block, for a subscriber of the one stream."""
        return self.identify(self.body(event), format_id(event.id))

    def body(self, event: Event) -> bytes:
        """All of the block but its position."""
        raise NotImplementedError

    def identify(self, body: bytes, position: str) -> bytes:
        """The whole block."""
        raise NotImplementedError

    def _recent(self, kept: dict[str, Recent], stream: str, render: Renderer) -> Recent:
        recent = kept.get(stream)
        if recent is None:
            if len(kept) >= self._MOST_STREAMS:
                kept.clear()
            recent = kept[stream] = Recent(render, self._memory.events, self._memory.size)
        return recent


class SseWire(_Encoding):
    """``event: <type>``, ``data: <one line>``, ``id: <position>``, blank line; without ``event`` unless `named`."""

    content_type = "text/event-stream; charset=utf-8"
    heartbeat = b":\n"
    representation: Representation = "sse"

    def __init__(self, format_: str, named: bool, memory: Memory) -> None:
        super().__init__(format_, memory)
        self._named = named

    def opening(self, retry_ms: int) -> bytes:
        """``retry`` and a comment, so that proxies and ``onopen`` see a byte at once."""
        return b"retry: %d\n: gateway\n" % retry_ms

    def body(self, event: Event) -> bytes:
        """All of the block but its position."""
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

    def body(self, event: Event) -> bytes:
        """The line."""
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
    """One `Wire` for each (representation, format, named) in use, so that what it remembers is shared."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._wires: dict[tuple[Representation, str, bool], Wire] = {}

    def get(self, representation: Representation, format_: str, named: bool) -> Wire:
        """The shared wire."""
        key = (representation, format_, named)
        wire = self._wires.get(key)
        if wire is None:
            if representation == "sse":
                wire = SseWire(format_, named, self._memory)
            else:
                wire = NdjsonWire(format_, self._memory)
            self._wires[key] = wire
        return wire
