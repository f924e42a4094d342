"""Whatever order things happen in, and wherever an owner ends: what is stored loses nothing and repeats nothing."""

from __future__ import annotations

import random
from functools import cache

import pytest

from gateway.bridge import lane as module
from gateway.bridge.ahead import NOTHING, Ahead
from gateway.bridge.lane import Lane
from gateway.events.event import Event
from gateway.events.position import ZERO, EventId, before, make_id
from gateway.stream.gap import Gap

UNWANTED = {make_id(number) for number in range(0, 1000, 5)}


@cache
def event(number: int) -> Event:
    return Event(make_id(number), "events", "a.b", "a", None, None, b"1")


def wanted(item: Event) -> bool:
    return item.id not in UNWANTED


class Cursor:
    """Reads the test's stream, three entries at a time."""

    def __init__(self, world: World, position: EventId) -> None:
        self._world = world
        self.position = position

    @property
    def at_tail(self) -> bool:
        return self.position >= make_id(self._world.seen)

    async def read(self, limit: int) -> list[Event]:
        items = [it for it in map(event, range(1, self._world.seen + 1)) if it.id > self.position][:3]
        self.position = items[-1].id if items else self.position
        return items


class World:
    """A stream up to `last`, of which this process has `seen` a part, and its feed has handed out a part of that.

    There is one owner of the lane after the other. Each change is written at once.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.last = self.seen = self.fed = 0
        self.settled: set[EventId] = set()
        self.flying: list[Event] = []
        self.position, self.ahead = ZERO, NOTHING
        self.own()

    def own(self) -> None:
        """A new owner, who knows what is stored."""
        self.flying = []
        self.fed = self.seen = self.random.randint(max(0, self.last - 3), self.last)
        self.lane = Lane(self.position, lambda: make_id(self.fed) if self.fed else ZERO, ahead=self.ahead)

    def store(self) -> None:
        self.position, self.ahead = self.lane.low_water(), Ahead.load(self.lane.ahead().dump())
        for item in map(event, range(1, self.last + 1)):
            if wanted(item):
                said = item.id <= self.position or self.ahead.settled(item.id)
                assert said == (item.id in self.settled), (item.id, self.lane.ahead())

    def publish(self) -> None:
        self.last += 1

    def see(self) -> None:
        self.seen = min(self.last, self.seen + 2)

    def feed(self) -> None:
        if self.fed < self.seen:
            self.fed += 1
            self.lane.waiting = False
            if wanted(item := event(self.fed)):
                self.lane.offer(item)

    async def read(self) -> None:
        if self.lane.wants_events:
            if self.lane.cursor is None:
                self.lane.cursor = Cursor(self, self.lane.scanned)  # type: ignore[assignment]
            assert await self.lane.read(wanted) == []  # type: ignore[arg-type]
            self.lane.waiting = self.lane.at_end and not self.lane.live

    def take(self) -> None:
        item = self.lane.take()
        if item is not None:
            assert item.id not in self.settled
            assert item not in self.flying
            self.flying.append(item)

    def settle(self) -> None:
        if self.flying:
            item = self.flying.pop(self.random.randrange(len(self.flying)))
            self.settled.add(item.id)
            self.lane.settled(item.id, self.lane.life)

    async def step(self) -> None:
        match self.random.choices(range(8), (4, 4, 5, 4, 5, 5, 0.5, 0.5))[0]:
            case 0:
                self.publish()
            case 1:
                self.see()
            case 2:
                self.feed()
            case 3:
                await self.read()
            case 4:
                self.take()
            case 5:
                self.settle()
            case 6:
                self.lane.suspend()
            case _:
                self.own()
        self.store()


@pytest.mark.parametrize("seed", range(200))
async def test_what_is_stored_is_what_is_settled(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 4)
    world = World(seed)
    for _ in range(150):
        await world.step()
    for _ in range(3 * world.last):
        world.see()
        world.feed()
        await world.read()
        world.take()
        world.settle()
        world.store()
    assert world.settled == {it.id for it in map(event, range(1, world.last + 1)) if wanted(it)}
    assert world.position >= before(make_id(world.last))
    assert world.ahead == NOTHING


def test_what_was_started_in_an_earlier_life_settles_nothing_of_this_one() -> None:
    lane = Lane(ZERO, lambda: make_id(9))
    lane.live = True
    old, one, two = lane.life, event(1), event(2)
    lane.offer(one)
    lane.offer(two)
    assert lane.take() == one
    lane.fell(Gap(ZERO, "events", make_id(9), "recreated"))
    assert lane.take() is None
    lane.offer(one)  # the same id, and another event
    assert lane.take() == one
    lane.settled(one.id, old)
    assert lane.low_water() == before(one.id)
    lane.settled(one.id, lane.life)
    assert lane.low_water() == make_id(9)
