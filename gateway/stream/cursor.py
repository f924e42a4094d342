"""A place in one stream, and reading on from it: from the window where that reaches back far enough, else from Redis.

This is how everything leaves the log: a live tail, a replay, a page of history, a webhook endpoint.
"""

from __future__ import annotations

from gateway.events.event import Entry
from gateway.events.position import EventId
from gateway.stream.gap import Gap, verdict
from gateway.stream.pace import Pace, payload_bytes
from gateway.stream.pages import Page, SharedPages
from gateway.stream.reader import Reader
from gateway.stream.window import Item, Window

_BYTES = 1 << 18

Place = tuple[EventId, int]
"""A position, and the life of the stream that it belongs to (`Window.epoch`)."""


class Cursor:
    """Reads the stream of `reader` from `position` (exclusive) on; what the window lacks comes from `pages`."""

    def __init__(self, reader: Reader, pages: SharedPages, position: EventId, epoch: int) -> None:
        self.reader = reader
        self.position = position
        self.source: Window | Page = reader.window
        """Where the items read last lie."""
        self.index: int | None = None
        """Of the first of them, in `source`; None when they lie nowhere."""
        self._epoch = epoch
        self._pages = pages
        self._pace = Pace()
        self._replay = False

    def fork_at_tail(self) -> Cursor:
        """Another cursor of the stream, at the tail of its window."""
        window = self.reader.window
        return Cursor(self.reader, self._pages, window.tail, window.epoch)

    @property
    def place(self) -> Place:
        """Where it stands, to come back to with `fork`."""
        return self.position, self._epoch

    def fork(self, place: Place) -> Cursor:
        """Another cursor of the stream, at `place`."""
        return Cursor(self.reader, self._pages, *place)

    def stands_with(self, other: Cursor) -> bool:
        """Whether both are at the same place in the same life of the stream."""
        return self.position == other.position and self._epoch == other._epoch

    def __repr__(self) -> str:
        return f"<Cursor {self.stream} at {self.position} behind {self.reader!r}>"

    @property
    def stream(self) -> str:
        """The key of the stream."""
        return self.reader.stream

    @property
    def at_tail(self) -> bool:
        """Whether there is nothing more to read now."""
        window = self.reader.window
        return self.position >= window.tail and self._epoch == window.epoch

    def read_window(self, limit: int, upto: EventId | None = None, size: int = _BYTES) -> list[Item] | None:
        """The next items from memory, empty at the tail; None when only Redis has them.

        At most `limit` and about `size` bytes, but one at least. With `upto` nothing beyond that id is read, nor the
        position moved past it.
        """
        window = self.reader.window
        self.source, self.index = window, None
        if self._epoch != window.epoch:
            reader, shortened = self.reader, self.reader.shortened and self._epoch + 1 == window.epoch
            self._epoch = window.epoch
            if not shortened or self.position > reader.born:
                gap = Gap(reader.born, self.stream, self.position, "recreated", shortened)
                self.position = gap.id
                return [gap]
        if self.position >= window.tail or (upto is not None and self.position >= upto):
            return []
        if self.position < window.floor:
            return None
        self.index, items = window.indexed_after(self.position, limit, size)
        # Between the last item and the tail may lie ids that no longer exist: the tail is as good a place.
        self.position = window.tail if window.is_last(self.index + len(items)) else items[-1].id
        return self._cut(items, upto)

    def _cut(self, items: list[Item], upto: EventId | None) -> list[Item]:
        if upto is None or self.position <= upto:
            return items
        self.position = upto
        return [item for item in items if item.id <= upto]

    async def read(self, limit: int, upto: EventId | None = None, size: int = _BYTES) -> list[Item]:
        """The next items, at most about `limit`; empty at the tail. A `Gap` comes before what follows the hole.

        Raises what the store raises when Redis is away; nothing is lost then, the next call tries again.
        """
        items = self.read_window(limit, upto, size)
        if items is not None:
            return items
        window, count = self.reader.window, self._pace.count
        floor = window.floor
        # A page of history is one read of what was asked for; a replay goes on, in larger steps and with reading ahead.
        replay, self._replay = self._replay, True
        part = await self._pages.page(
            window, self.stream, self.position, self._epoch, limit, count if replay else min(limit, count)
        )
        if replay and not part.reborn and self._epoch == window.epoch:
            await self._pages.read_ahead(window, self.stream, part.page, count)
        if part.reborn or self._epoch != window.epoch:
            if self._epoch == window.epoch:
                await self.reader.refresh()
            return self.read_window(1) or []
        entries = part.entries if part.page.payload <= size else _within(part.entries, size)
        self._pace.saw(len(part.page.entries), part.page.payload)
        gap = verdict(self.stream, self.position, part.page.info)
        if gap is not None:
            return await self._fall(gap, entries)
        self.source, self.index = part.page, part.at
        self.position = entries[-1].id if entries else max(self.position, floor)
        return self._cut(list(entries), upto)

    async def _fall(self, gap: Gap, entries: list[Entry]) -> list[Item]:
        if gap.reason == "recreated":
            # The reader will find out too, and say where the new life begins; hear it first, or it would be told twice.
            await self.reader.refresh()
            if self._epoch != self.reader.window.epoch:
                return self.read_window(1) or []
            self.position = gap.id
            return [gap]
        floor = self.reader.window.floor
        if self.position <= floor < gap.id:
            # Trimmed in Redis, but still in memory. A hole that begins there is the same hole.
            following = self.reader.window.after(floor, 1)
            resumed_at = following[0].id if following and isinstance(following[0], Gap) else floor
            self.position = resumed_at
            return [gap._replace(id=resumed_at)]
        self.position = entries[-1].id if entries else gap.id
        return [gap, *entries]


def _within(entries: list[Entry], size: int) -> list[Entry]:
    """The first entries with about `size` bytes of payload together, but one at least."""
    for at, entry in enumerate(entries):
        size -= payload_bytes((entry,))
        if size < 0:
            return entries[: max(1, at)]
    return entries
