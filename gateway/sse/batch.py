"""A slice of one stream as the bytes that cohorts get of it: rendered once for all that want the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.events.event import Event
from gateway.events.position import EventId, format_position
from gateway.sse.cohort import CohortKey
from gateway.sse.connection import chunk
from gateway.sse.frame import Source, Wire, describe_gap, describe_skipped
from gateway.sse.sweep import Places
from gateway.stream.gap import Gap
from gateway.stream.window import Item


class Rendered(NamedTuple):
    """`data` is `size` bytes of body, with `events` events in it, framed for the wire."""

    data: bytes
    size: int
    events: int


class Batch:
    """`items` of `stream`, which begin at `index` of `source` (None: they lie nowhere that many read)."""

    def __init__(self, stream: str, items: Sequence[Item], source: Source, index: int | None) -> None:
        self._stream = stream
        self._items = items
        self._source = source
        self._index = index
        self._last: dict[tuple[Wire, tuple[str, ...]], tuple[Sequence[int], Rendered]] = {}

    def render(self, key: CohortKey, chosen: Sequence[int], places: Places) -> Rendered:
        """The items at the offsets `chosen`, for members that stand at `places` in their other streams."""
        kind = (key.wire, key.streams)
        last = self._last.get(kind)
        if last is not None and last[0] == chosen:
            return last[1]
        blocks = self._blocks(key.wire, chosen, places)
        block = b"".join(blocks)
        events = sum(isinstance(self._items[at], Event) for at in chosen)
        rendered = Rendered(chunk(block), len(block), events)
        self._last[kind] = (chosen, rendered)
        return rendered

    def _blocks(self, wire: Wire, chosen: Sequence[int], places: Places) -> Sequence[bytes]:
        alone = len(places) == 1
        if alone and self._index is not None and len(chosen) == len(self._items):
            blocks = wire.blocks(self._source).run(self._index, self._items)
            if blocks is not None:
                return blocks
        others = None if alone else {name: position for name, (position, _) in places.items()}
        return [self._block(wire, at, self._items[at], others) for at in chosen]

    def _block(self, wire: Wire, at: int, item: Item, others: dict[str, EventId] | None) -> bytes:
        if isinstance(item, Event) and others is None:
            return wire.block(item) if self._index is None else wire.blocks(self._source).one(self._index + at, item)
        position = format_position({**(others or {}), self._stream: item.id})
        if isinstance(item, Event):
            body = wire.body(item) if self._index is None else wire.bodies(self._source).one(self._index + at, item)
            return wire.identify(body, position)
        if isinstance(item, Gap):
            return wire.control("gateway.gap", describe_gap(item), position)
        return wire.control("gateway.skipped", describe_skipped(item), position)
