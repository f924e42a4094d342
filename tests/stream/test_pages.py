"""Pages that many read at about the same time are read once, and never served beyond the life they belong to."""

from __future__ import annotations

import asyncio

from gateway.events.event import Entry, Event
from gateway.events.position import EventId, make_id
from gateway.stream.gap import StreamInfo
from gateway.stream.pages import SharedPages


class Source:
    """A stream of `count` entries that notes how it was read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reads: list[EventId] = []
        self.under_way = 0
        self.payload = b"1"

    async def page(self, stream: str, after: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        self.under_way += 1
        assert self.under_way == 1, "one page of a stream at a time"
        await asyncio.sleep(0)
        self.under_way -= 1
        self.reads.append(after)
        ids = [make_id(n) for n in range(1, self.count + 1) if make_id(n) > after][:count]
        entries: list[Entry] = [Event(event_id, stream, "a", "a", None, None, self.payload) for event_id in ids]
        return entries, StreamInfo(self.count, make_id(self.count), make_id(1), self.count)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_storm_reads_the_range_once() -> None:
    source = Source(1000)
    pages = SharedPages(source, 64, Clock())

    async def replay(start: int) -> list[EventId]:
        got: list[EventId] = []
        position = make_id(start)
        while position < make_id(1000):
            part = await pages.page("s", position, 0, 250)
            assert part.entries == part.page.entries[part.at : part.at + len(part.entries)]
            got += [entry.id for entry in part.entries]
            position = got[-1]
        return got

    replays = await asyncio.gather(*(replay(start % 100) for start in range(500)))
    for start, got in enumerate(replays):
        assert got == [make_id(n) for n in range(start % 100 + 1, 1001)]
    # 100 different places to start, in a range of four pages.
    assert len(source.reads) <= 12


async def test_another_life_of_the_stream_has_pages_of_its_own() -> None:
    source = Source(10)
    pages = SharedPages(source, 64, Clock())
    await pages.page("s", EventId(0), 0, 100)
    source.payload = b"2"
    again = await pages.page("s", EventId(0), 1, 100)
    assert {entry.data for entry in again.entries if isinstance(entry, Event)} == {b"2"}
    assert again.fresh


async def test_pages_are_forgotten_by_age_and_by_size() -> None:
    source, clock = Source(100), Clock()
    pages = SharedPages(source, 64, clock, seconds=30, size=50_000)
    await pages.page("s", EventId(0), 0, 10)
    assert not (await pages.page("s", EventId(0), 0, 10)).fresh
    clock.now = 31
    assert (await pages.page("s", EventId(0), 0, 10)).fresh
    source.payload = b"x" * 3000
    for start in range(0, 100, 10):
        await pages.page("s", make_id(start), 0, 10)
    assert (await pages.page("s", EventId(0), 0, 10)).fresh, "the oldest had to make room"
