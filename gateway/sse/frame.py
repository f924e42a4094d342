"""What goes over the wire: SSE blocks (WHATWG HTML, section 9.2) and NDJSON lines.

Rules that clients taught us (research/clients_and_proxies.md): no block without ``data:``, because httpx-sse and
fetch-event-source make an empty message of it; ``retry`` and comments are never followed by a blank line of their
own; ``id`` comes after ``data``, because a client that takes the id first loses the event when the cut falls between.
Field values cannot hold CR, LF or NUL: see `gateway.events.rules` and `gateway.events.jsontext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol, cast
from weakref import WeakKeyDictionary

import orjson

from gateway.events.envelope import ENCODERS
from gateway.events.event import Event, Skipped
from gateway.events.position import format_id
from gateway.stream.gap import Gap
from gateway.stream.pages import Page
from gateway.stream.window import Item, Window

Representation = Literal["sse", "ndjson"]

Renderer = Callable[[Sequence[Event]], list[bytes]]
Source = Window | Page
"""Where events lie that many subscribers read: the window, or a page of older ones."""


class Wire(Protocol):
    """How events become bytes. `position` is the id that a client resumes with after this block."""

    content_type: bytes
    heartbeat: bytes
    representation: Representation

    def opening(self, retry_ms: int) -> bytes: ...
    def blocks(self, source: Source) -> Track: ...
    def block(self, event: Event) -> bytes: ...
    def bodies(self, source: Source) -> Track: ...
    def body(self, event: Event) -> bytes: ...
    def identify(self, body: bytes, position: str) -> bytes: ...
    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes: ...


class Track:
    """What `render` makes of the events of a source, each rendered once for all subscribers.

    A list beside the source's own, by the source's indexes: joining a slice of it costs a tenth of a look-up for each
    event (measured: 0.1 against 1.6 us; a dict as a queue, tried first, walked over its own holes: 25 us).
    """

    def __init__(self, render: Renderer) -> None:
        self._render = render
        self._base = 0
        self._blocks: list[bytes | None] = []

    def forget(self, first_index: int) -> None:
        """Drop what is below `first_index`, now and then."""
        gone = first_index - self._base
        if gone > 0 and gone >= len(self._blocks) // 2:
            del self._blocks[:gone]
            self._base = first_index

    def one(self, index: int, event: Event) -> bytes:
        """The block of the event at `index`."""
        at = self._reach(index, index + 1)
        block = self._blocks[at]
        if block is None:
            block = self._blocks[at] = self._render((event,))[0]
        return block

    def run(self, index: int, items: Sequence[Item]) -> list[bytes] | None:
        """The blocks of `items`, which begin at `index`; None if they are not all events."""
        end = index + len(items)
        at = self._reach(index, end)
        blocks = self._blocks[at : at + len(items)]
        if None in blocks:
            if set(map(type, items)) != {Event}:
                return None
            first = blocks.index(None)
            blocks[first:] = self._blocks[at + first : at + len(items)] = self._render(
                cast(Sequence[Event], items[first:])
            )
        return cast(list[bytes], blocks)

    def _reach(self, start: int, end: int) -> int:
        """Make room for the indexes from `start` to `end`; where `start` lies in the list."""
        if not self._blocks:
            self._base = start
        elif start < self._base:
            self._blocks[:0] = [None] * (self._base - start)
            self._base = start
        missing = end - self._base - len(self._blocks)
        if missing > 0:
            self._blocks += [None] * missing
        return start - self._base


class _Encoding:
    """What both wires share: a track for each stream and kind."""

    def __init__(self, format_: str) -> None:
        self._encode = ENCODERS[format_]
        self._blocks: WeakKeyDictionary[Source, Track] = WeakKeyDictionary()
        self._bodies: WeakKeyDictionary[Source, Track] = WeakKeyDictionary()

    def blocks(self, source: Source) -> Track:
        """`block` for the events of `source`."""
        return self._track(self._blocks, source, self.render)

    def bodies(self, source: Source) -> Track:
        """`body` for the events of `source`."""
        return self._track(self._bodies, source, lambda events: [self.body(event) for event in events])

    def block(self, event: Event) -> bytes:
        """The whole block, for a subscriber of the one stream."""
        return self.render((event,))[0]

    def render(self, events: Sequence[Event]) -> list[bytes]:
        """The whole blocks, for a subscriber of the one stream."""
        return [self.identify(self.body(event), format_id(event.id)) for event in events]

    def body(self, event: Event) -> bytes:
        """All of the block but its position."""
        raise NotImplementedError

    def identify(self, body: bytes, position: str) -> bytes:
        """The whole block."""
        raise NotImplementedError

    def _track(self, tracks: WeakKeyDictionary[Source, Track], source: Source, render: Renderer) -> Track:
        track = tracks.get(source)
        if track is None:
            track = tracks[source] = Track(render)
        track.forget(source.first_index)
        return track


@lru_cache(maxsize=4096)
def _head(type_: str) -> bytes:
    return b"event: %b\ndata: " % type_.encode()


class SseWire(_Encoding):
    """``event: <type>``, ``data: <one line>``, ``id: <position>``, blank line; without ``event`` unless `named`."""

    content_type = b"text/event-stream; charset=utf-8"
    heartbeat = b":\n"
    representation: Representation = "sse"

    def __init__(self, format_: str, named: bool) -> None:
        super().__init__(format_)
        self._named = named

    def opening(self, retry_ms: int) -> bytes:
        """``retry`` and a comment, so that proxies and ``onopen`` see a byte at once."""
        return b"retry: %d\n: gateway\n" % retry_ms

    def body(self, event: Event) -> bytes:
        """All of the block but its position."""
        if self._named:
            return b"%b%b\nid: " % (_head(event.type), self._encode(event))
        return b"data: %b\nid: " % self._encode(event)

    def render(self, events: Sequence[Event]) -> list[bytes]:
        """The whole blocks, for a subscriber of the one stream. In one go: a third of the time of a replay."""
        encode, join = self._encode, b"".join
        if not self._named:
            return [join((b"data: ", encode(it), b"\nid: ", it[9] or it.spelled, b"\n\n")) for it in events]
        return [join((_head(it[2]), encode(it), b"\nid: ", it[9] or it.spelled, b"\n\n")) for it in events]

    def identify(self, body: bytes, position: str) -> bytes:
        """The whole block."""
        return b"%b%b\n\n" % (body, position.encode())

    def control(self, name: str, data: Mapping[str, Any], position: str, retry_ms: int | None = None) -> bytes:
        """A control event: always named. `retry_ms` sets the reconnect delay anew."""
        retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
        return b"%bevent: %b\ndata: %b\nid: %b\n\n" % (retry, name.encode(), orjson.dumps(data), position.encode())


class NdjsonWire(_Encoding):
    """One envelope a line; control events are ``{"control","id","data"}``; a heartbeat is an empty line."""

    content_type = b"application/x-ndjson"
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


def describe_skipped(entry: Skipped) -> dict[str, str]:
    """The data of ``gateway.skipped``."""
    return {"stream": entry.stream, "id": format_id(entry.id), "reason": entry.reason}


class Wires:
    """One `Wire` for each (representation, format, named) in use, so that its tracks are shared."""

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
