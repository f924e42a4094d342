"""The hot tail of one stream in memory: what most reconnecting clients missed, without asking Redis.

Operations wanted: append at the end, drop at the front, "everything after this id".  Entries lie in a list sorted by
id, with a parallel list of ids to bisect; the dropped front is cut off when it makes up half of the list, so each
operation is O(log n) or amortised O(1).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from gateway.events.event import Event, Skipped
from gateway.events.position import ZERO, EventId
from gateway.stream.gap import Gap

Item = Event | Skipped | Gap
"""What a reader meets in the log, in order of id."""

_OVERHEAD = 600
"""Bytes that an entry is taken to cost beside its payload: 306 by tracemalloc, and what allocators leave unused."""


class Window:
    """Items of one stream, all of them from `floor` (exclusive) to `tail` (inclusive).

    `epoch` counts the lives of the stream that this process has seen: positions from another epoch mean nothing here.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._items: list[Item] = []
        self._ids: list[EventId] = []
        self._sums: list[int] = []  # bytes of all items up to and with this one
        self._head = 0
        self._bytes = 0
        self._cut_off = 0  # how many items were ever cut off the front of the list
        self.floor = ZERO
        self.tail = ZERO
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._items) - self._head

    def __repr__(self) -> str:
        return f"<Window {len(self)} items, {self._bytes} bytes, floor={self.floor}, tail={self.tail}>"

    def reset(self, floor: EventId, tail: EventId) -> None:
        """Forget all items; what lies between `floor` and `tail` does not exist."""
        self._cut_off += len(self._items)
        self._items, self._ids, self._sums, self._head, self._bytes = [], [], [], 0, 0
        self.floor, self.tail = floor, tail

    def would_overflow(self, events: int, payload_bytes: int) -> bool:
        """Whether so many events with so much payload together would not fit."""
        return events >= self._max_events or payload_bytes + events * _OVERHEAD >= self._max_bytes

    def holds(self, event_id: EventId) -> bool:
        """Whether an entry with this id is in memory."""
        at = bisect_right(self._ids, event_id, self._head)
        return at > self._head and self._ids[at - 1] == event_id

    def covers(self, position: EventId) -> bool:
        """Whether `after(position)` is complete."""
        return self.floor <= position <= self.tail

    def extend(self, items: Sequence[Item], tail: EventId) -> None:
        """Append `items` (ascending, all after the present tail) and move the tail; drop what no longer fits."""
        self._items.extend(items)
        total = self._sums[-1] if self._sums else 0
        for item in items:
            size = _size(item)
            total += size
            self._bytes += size
            self._ids.append(item.id)
            self._sums.append(total)
        self.tail = tail
        self._evict()

    @property
    def first_index(self) -> int:
        """The index of the oldest item. Indexes count up over the life of the window and are never used twice."""
        return self._cut_off + self._head

    def is_last(self, index: int) -> bool:
        """Whether `index` is that of the next item to come."""
        return index == self._cut_off + len(self._items)

    def after(self, position: EventId, limit: int) -> list[Item]:
        """The first `limit` items after `position`, which the window must cover."""
        return self.indexed_after(position, limit, self._max_bytes)[1]

    def indexed_after(self, position: EventId, limit: int, size: int) -> tuple[int, list[Item]]:
        """The first `limit` items after `position`, or as many as about `size` bytes hold, but one at least.

        With the index of the first of them.
        """
        start = bisect_right(self._ids, position, self._head)
        end = min(start + limit, len(self._items))
        if end > start:
            before = self._sums[start - 1] if start else 0
            if self._sums[end - 1] - before > size:
                end = max(start + 1, bisect_right(self._sums, before + size, start, end))
        return self._cut_off + start, self._items[start:end]

    def _evict(self) -> None:
        head, items = self._head, self._items
        while len(items) - head > self._max_events or (self._bytes > self._max_bytes and head < len(items)):
            self._bytes -= _size(items[head])
            self.floor = items[head].id
            head += 1
        self._head = head
        if head > len(items) // 2:
            del items[:head], self._ids[:head], self._sums[:head]
            self._cut_off += head
            self._head = 0


def _size(item: Item) -> int:
    return _OVERHEAD + len(item.data) if isinstance(item, Event) else _OVERHEAD
