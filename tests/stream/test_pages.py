"""Pages that many read at about the same time are read once, and never served beyond the life they belong to."""

from __future__ import annotations

import asyncio

import pytest

from gateway.events.event import Entry, Event
from gateway.events.position import EventId, make_id
from gateway.stream.gap import StreamInfo
from gateway.stream.pages import Part, SharedPages
from gateway.stream.window import Window
from tests.support.wait import wait_until


class Source:
    """A stream of `count` entries that notes how it was read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.reads: list[EventId] = []
        self.under_way = 0
        self.payload = b"1"
        self.away = False

    async def page(self, stream: str, after: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        self.under_way += 1
        assert self.under_way == 1, "one page of a stream at a time"
        await asyncio.sleep(0)
        self.under_way -= 1
        self.reads.append(after)
        if self.away:
            raise OSError("away")
        ids = [make_id(n) for n in range(1, self.count + 1) if make_id(n) > after][:count]
        entries: list[Entry] = [Event(event_id, stream, "a", "a", None, None, self.payload) for event_id in ids]
        return entries, StreamInfo(self.count, make_id(self.count), make_id(1), self.count)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def window(floor: int, tail: int) -> Window:
    """The window of a stream whose newest entries are in memory, from `floor` on."""
    made = Window(1000, 1 << 20)
    made.reset(make_id(floor), make_id(tail))
    return made


async def ask(pages: SharedPages, start: int, most: int = 10, epoch: int = 0) -> Part:
    return await pages.page(window(1000, 0), "s", make_id(start), epoch, most, most)


async def test_a_storm_reads_the_range_once() -> None:
    source = Source(1000)
    pages = SharedPages(source, 64, Clock())

    async def replay(start: int) -> list[EventId]:
        got: list[EventId] = []
        position = make_id(start)
        while position < make_id(1000):
            part = await pages.page(window(1000, 1000), "s", position, 0, 250, 250)
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
    await ask(pages, 0, 100)
    source.payload = b"2"
    again = await ask(pages, 0, 100, epoch=1)
    assert {entry.data for entry in again.entries if isinstance(entry, Event)} == {b"2"}
    assert len(source.reads) == 2


async def test_pages_are_forgotten_by_age_and_by_size() -> None:
    source, clock = Source(100), Clock()
    pages = SharedPages(source, 64, clock, seconds=30, size=50_000)
    await ask(pages, 0)
    await ask(pages, 0)
    assert len(source.reads) == 1
    clock.now = 31
    await ask(pages, 0)
    assert len(source.reads) == 2
    source.payload = b"x" * 3000
    for start in range(0, 100, 10):
        await ask(pages, start)
    del source.reads[:]
    await ask(pages, 0)
    assert len(source.reads) == 1, "the oldest had to make room"


async def test_the_next_page_is_read_ahead_once() -> None:
    source = Source(100)
    pages = SharedPages(source, 64, Clock())
    first = await ask(pages, 0)
    for _ in range(3):
        await pages.read_ahead(window(1000, 100), "s", first.page, 10)
    await wait_until(lambda: len(source.reads) == 2)
    second = await ask(pages, 10)
    await pages.read_ahead(window(1000, 100), "s", first.page, 10)
    await pages.stop()
    assert source.reads == [make_id(0), make_id(10)]
    assert [entry.id for entry in second.entries] == [make_id(n) for n in range(11, 21)]


async def test_nothing_is_read_ahead_where_the_window_or_the_stream_ends() -> None:
    source = Source(100)
    pages = SharedPages(source, 64, Clock())
    await pages.read_ahead(window(10, 100), "s", (await ask(pages, 0)).page, 10)
    await pages.read_ahead(window(1000, 100), "s", (await ask(pages, 90)).page, 10)
    await pages.stop()
    assert source.reads == [make_id(0), make_id(90)]


async def test_redis_that_goes_away_while_it_is_read_ahead_is_told_to_those_who_ask() -> None:
    source = Source(100)
    pages = SharedPages(source, 64, Clock())
    first = await ask(pages, 0)
    source.away = True
    await pages.read_ahead(window(1000, 100), "s", first.page, 10)
    await wait_until(lambda: len(source.reads) == 2)
    with pytest.raises(OSError, match="away"):
        await ask(pages, 10)
    source.away = False
    assert len((await ask(pages, 10)).entries) == 10


async def test_a_page_of_a_life_that_the_reader_does_not_know_of_is_not_kept() -> None:
    source = Source(10)
    pages = SharedPages(source, 64, Clock())
    assert (await pages.page(window(0, 50), "s", make_id(0), 0, 10, 10)).reborn
    assert not (await pages.page(window(0, 10), "s", make_id(0), 0, 10, 10)).reborn
    assert len(source.reads) == 2
