"""A replica without the last entries took over: the stream is the same, a little shorter."""

from __future__ import annotations

from gateway.bridge.ahead import Ahead
from gateway.bridge.lane import Lane
from gateway.events.event import Entry, Event, read_entry
from gateway.events.position import EventId, make_id
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap, StreamInfo
from gateway.stream.pages import SharedPages
from gateway.stream.reader import Reader
from gateway.stream.window import Window
from tests.stream.test_reader import Observer, Source
from tests.support.wait import wait_until


class Shrinking(Source):
    async def page(self, stream: str, after: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        return [entry for entry in self._entries() if entry.id > after][:count], self._look()


def ids(items: list[Gap] | list[Entry] | list[Event]) -> list[EventId]:
    return [item.id for item in items]


async def test_who_stands_before_the_end_goes_on_without_a_gap() -> None:
    source = Shrinking()
    source.count = 9
    reader = Reader("s", source, Window(100, 1 << 20), Observer(), lambda: 0.0, lambda: 0.0)
    pages = SharedPages(source, 8, lambda: 0.0)
    reader.start()
    assert await reader.ready(20)
    behind, at_end, past = (Cursor(reader, pages, make_id(n), 0) for n in (2, 6, 8))
    source.count = 6
    await wait_until(lambda: reader.window.epoch == 1)
    assert ids(await behind.read(100)) == [make_id(n) for n in range(3, 7)]
    assert await at_end.read(100) == []
    assert await past.read(100) == [Gap(make_id(6), "s", make_id(8), "recreated", True)]
    source.count = 7
    await wait_until(lambda: reader.window.tail == make_id(7))
    assert [ids(await cursor.read(100)) for cursor in (behind, at_end, past)] == [[make_id(7)]] * 3
    await reader.stop()


def event(n: int) -> Event:
    entry = read_entry("s", b"%d-0" % n, [b"type", b"a", b"data", b"1"])
    assert isinstance(entry, Event)
    return entry


def test_a_webhook_that_waits_in_memory_is_delivered_all_the_same() -> None:
    tail = make_id(9)
    lane = Lane(make_id(0), lambda: tail, ahead=Ahead(make_id(4), frozenset([make_id(3)])))
    lane.live = True
    for n in (3, 5, 6, 8):
        lane.offer(event(n))
    assert lane.take() == event(3)
    tail = make_id(6)
    lane.fell(Gap(tail, "s", make_id(9), "recreated", shortened=True))
    lane.settled(make_id(3), lane.life)
    assert lane.low_water() == make_id(5) - 1
    assert [lane.take(), lane.take(), lane.take()] == [event(5), event(6), None]
