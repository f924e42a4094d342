"""A slice of one stream as the bytes that cohorts get of it: rendered once for all that want the same of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gateway.events.event import Event
from gateway.events.position import speller
from gateway.sse.breath import Breath
from gateway.sse.cohort import CohortKey, Places
from gateway.sse.connection import chunk
from gateway.sse.frame import Source, Wire, describe_gap, describe_skipped
from gateway.stream.gap import Gap
from gateway.stream.window import Item

_BLOCK: Final = 0.2
"""What it costs to render and join one (see `Breath`)."""


class Rendered(NamedTuple):
    """`data` is `size` bytes of body, with `events` events in it, framed for the wire."""

    data: bytes
    size: int
    events: int


class Batch:
    """`items` of `stream`, which begin at `index` of `source` (None: they lie nowhere that many read)."""

    def __init__(self, stream: str, items: Sequence[Item], source: Source, index: int | None, breath: Breath) -> None:
        self._stream = stream
        self._items = items
        self._source = source
        self._index = index
        self._breath = breath
        self._last: dict[tuple[Wire, tuple[str, ...]], tuple[Sequence[int], Rendered]] = {}

    async def render(self, key: CohortKey, chosen: Sequence[int], places: Places) -> Rendered:
        """The items at the offsets `chosen`, for members that stand at `places` in their other streams.

        `places` are the same for all that have the same streams.
        """
        kind = (key.wire, key.streams)
        last = self._last.get(kind)
        if last is not None and last[0] == chosen:
            return last[1]
        blocks = self._blocks(key.wire, chosen, places)
        block = b"".join(blocks)
        events = sum(isinstance(self._items[at], Event) for at in chosen)
        rendered = Rendered(chunk(block), len(block), events)
        self._last[kind] = (chosen, rendered)
        await self._breath.spend(len(chosen) * _BLOCK)
        return rendered

    def _blocks(self, wire: Wire, chosen: Sequence[int], places: Places) -> Sequence[bytes]:
        items, index = self._items, self._index
        spell = speller(self._stream, {name: position for name, (position, _) in places.items()})
        if index is None:
            return [_block(wire, items[at], spell) for at in chosen]
        alone = len(places) == 1
        track = wire.blocks(self._source) if alone else wire.bodies(self._source)
        if alone and len(chosen) == len(items) and (whole := track.run(index, items)) is not None:
            return whole
        found = []
        for at in chosen:
            item = items[at]
            if not isinstance(item, Event):
                found.append(_block(wire, item, spell))
            elif alone:
                found.append(track.one(index + at, item))
            else:
                found.append(wire.identify(track.one(index + at, item), spell(item.id)))
        return found


def _block(wire: Wire, item: Item, spell: Callable[[int], str]) -> bytes:
    position = spell(item.id)
    if isinstance(item, Event):
        return wire.identify(wire.body(item), position)
    if isinstance(item, Gap):
        return wire.control("gateway.gap", describe_gap(item), position)
    return wire.control("gateway.skipped", describe_skipped(item), position)
