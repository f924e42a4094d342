"""A sweep over many members gives the event loop its turn."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from gateway.events.event import Event
from gateway.events.filter import EVERYTHING
from gateway.events.position import EventId, make_id
from gateway.sse.cohort import CohortKey
from gateway.sse.frame import Wires
from gateway.sse.live import LiveLane
from gateway.sse.subscriber import Subscriber, Timing
from gateway.stream.cursor import Cursor
from gateway.stream.pages import SharedPages
from gateway.stream.window import Window
from tests.support.wait import wait_until

MEMBERS = 10_000
TIMING = Timing(heartbeat=1e9, retry=3, clock=lambda: 0.0, jitter=lambda: 0.5)


class Quiet:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **keywords: None


def event(n: int) -> Event:
    return Event(make_id(n), "s", "a", "a", None, None, b"1")


async def test_no_more_than_a_few_hundred_writes_between_two_turns_of_the_loop() -> None:
    window = Window(100, 1 << 20)
    reader = cast(Any, SimpleNamespace(stream="s", window=window, listeners=set(), read_at=0.0, born=EventId(0)))
    pages = SharedPages(cast(Any, None), 1, lambda: 0.0)
    lane = LiveLane(TIMING, cast(Any, Quiet()), lambda subscriber: None)
    key = CohortKey(("s",), EVERYTHING, Wires().get("sse", "native", True), True)
    turn = 0
    writes: list[int] = []

    def write(data: bytes) -> None:
        writes.append(turn)

    for _ in range(MEMBERS):
        subscriber = Subscriber([Cursor(reader, pages, window.tail, 0)], (), key, TIMING, cast(Any, Quiet()))
        subscriber.write = write
        assert lane.can_join(subscriber)
        lane.join(subscriber)

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    window.extend([event(1), event(2)], make_id(2))
    for listener in reader.listeners:
        listener()
    await wait_until(lambda: len(writes) == MEMBERS, "each member got one write for the batch")
    most = max(writes.count(number) for number in set(writes))
    # Measured at 4 to 9 us a write: 256 take about 2 ms, a tenth of what is allowed.
    assert most <= 256
    counting.cancel()
    await lane.stop()
