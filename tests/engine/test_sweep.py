"""A sweep writes to sockets, loses nothing of what they do not take, and gives the event loop its turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.events.event import Event
from gateway.events.filter import EVERYTHING, Filter, channel_globs
from gateway.events.position import EventId, make_id
from gateway.sse.cohort import Cohort, CohortKey
from gateway.sse.connection import chunk
from gateway.sse.frame import Wires
from gateway.sse.live import LiveLane
from gateway.sse.subscriber import Subscriber, Timing
from gateway.sse.sweep import Sweeper
from gateway.stream.cursor import Cursor
from gateway.stream.pages import SharedPages
from gateway.stream.window import Window
from tests.support.wait import wait_until

MANY = 10_000
TIMING = Timing(heartbeat=1e9, retry=3, clock=lambda: 0.0, jitter=lambda: 0.5)
WIRE = Wires().get("sse", "native", True)


class Quiet:
    """Counts nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **keywords: None


def event(n: int) -> Event:
    return Event(make_id(n), "s", "a", "a", None, None, b"1")


class Client:
    """A member of a cohort over a pair of sockets, and what its transport was given to buffer."""

    def __init__(self, cohort: Cohort, sockets: tuple[socket.socket, socket.socket]) -> None:
        self.ours, self.theirs = sockets
        for it in sockets:
            it.setblocking(False)
        self.buffered: list[bytes] = []
        self.member = Subscriber((), (), cohort.key, TIMING, cast(Any, Quiet()))
        self.member.write = self.write
        self.member.cohort = cohort
        self.member.descriptor = self.ours.fileno()
        cohort.place(self.member)

    def write(self, data: bytes) -> None:
        """What the transport does with it: keep it, and say so."""
        self.buffered.append(data)
        self.member.on_paused()

    def fill(self) -> None:
        """Until the kernel takes no more."""
        try:
            while True:
                self.ours.send(b"x" * 4096)
        except BlockingIOError:
            pass

    def received(self) -> bytes:
        """All that has come, as far as the peer still reads."""
        found = b""
        try:
            while part := self.theirs.recv(1 << 20):
                found += part
        except BlockingIOError:
            pass
        return found


class Scene:
    """A cohort, and whom the sweeper dropped."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.cohort = Cohort(CohortKey(("s",), EVERYTHING, WIRE, True), 0.0, 0)
        self.dropped: list[Subscriber] = []
        self.sweeper = Sweeper(self._drop)

    def _drop(self, member: Subscriber, places: Any) -> None:
        member.cohort = None
        self.cohort.remove(member)
        self.dropped.append(member)

    def client(self) -> Client:
        pair = socket.socketpair()
        for it in pair:
            self._stack.enter_context(it)
        return Client(self.cohort, pair)

    async def sweep(self, block: bytes) -> int:
        return await self.sweeper.sweep(self.cohort.audience({}, 0), chunk(block))


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack)


async def test_a_socket_that_takes_nothing_drops_its_member_and_no_other(scene: Scene) -> None:
    before, full, after = scene.client(), scene.client(), scene.client()
    full.fill()
    assert await scene.sweep(b"block") == 2
    assert scene.dropped == [full.member]
    assert before.received() == after.received() == chunk(b"block")
    assert not full.received().strip(b"x")  # not a byte of the block: it will be read again by position
    assert not full.buffered


async def test_what_a_socket_takes_in_part_goes_on_in_the_transport(scene: Scene) -> None:
    client = scene.client()
    block = b"y" * (8 << 20)
    assert await scene.sweep(block) == 1
    assert not scene.dropped
    assert client.buffered, "more than the kernel takes"
    assert client.received() + b"".join(client.buffered) == chunk(block)
    # Its socket must not be written to past what waits in the transport.
    assert await scene.sweep(b"next") == 0
    assert scene.dropped == [client.member]
    assert not client.received()


async def test_a_member_whose_transport_is_empty_again_is_written_to_again(scene: Scene) -> None:
    client = scene.client()
    client.member.on_paused()
    client.member.on_resumed()
    assert await scene.sweep(b"block") == 1
    assert client.received() == chunk(b"block")


async def test_the_transport_of_a_peer_that_is_gone_learns_of_it(scene: Scene) -> None:
    gone, there = scene.client(), scene.client()
    gone.theirs.close()
    assert await scene.sweep(b"block") == 1
    assert there.received() == chunk(b"block")
    assert gone.buffered == [chunk(b"block")], "it may not be reading: only a write tells it"
    assert not scene.dropped, "it tells us, in its own time"


async def test_a_descriptor_that_changes_hands_between_two_turns_gets_nothing_of_the_former(scene: Scene) -> None:
    clients = [scene.client() for _ in range(450)]
    last = clients[-1]
    sweeping = asyncio.create_task(scene.sweep(b"block"))
    await asyncio.sleep(0)  # 400 were written to
    assert clients[399].received()
    number = last.ours.fileno()
    scene.cohort.remove(last.member)
    last.member.cohort = None
    last.ours.close()
    heir = scene.client()
    assert heir.ours.fileno() == number
    assert await sweeping == 449
    assert not heir.received(), "it joined after the batch"
    assert all(client.received() == chunk(b"block") for client in clients[:399])
    assert await scene.sweep(b"next") == 450
    assert heir.received() == chunk(b"next")


async def test_a_member_that_has_a_backlog_when_its_turn_comes_is_dropped(scene: Scene) -> None:
    clients = [scene.client() for _ in range(450)]
    sweeping = asyncio.create_task(scene.sweep(b"block"))
    await asyncio.sleep(0)  # 400 were written to
    clients[-1].member.on_paused()
    assert await sweeping == 449
    assert scene.dropped == [clients[-1].member]
    assert not clients[-1].received()


async def test_without_a_descriptor_the_transport_is_written_to(scene: Scene) -> None:
    client = scene.client()
    scene.cohort.remove(client.member)
    client.member.descriptor = None
    client.member.write = client.buffered.append
    scene.cohort.place(client.member)
    assert await scene.sweep(b"block") == 1
    assert client.buffered == [chunk(b"block")]
    assert not client.received()


class Lane:
    """A live lane over a window, and members whose writes are noted with the turn of the loop they came in."""

    def __init__(self) -> None:
        self.window = Window(100, 1 << 20)
        self._reader = cast(
            Any, SimpleNamespace(stream="s", window=self.window, listeners=set(), read_at=0.0, born=EventId(0))
        )
        self._pages = SharedPages(cast(Any, None), 1, lambda: 0.0)
        self.lane = LiveLane(TIMING, cast(Any, Quiet()), lambda subscriber: None)
        self.turn = 0
        self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def join(self, filter_: Filter, writes: list[int]) -> None:
        key = CohortKey(("s",), filter_, WIRE, True)
        cursor = Cursor(self._reader, self._pages, self.window.tail, 0)
        subscriber = Subscriber([cursor], (), key, TIMING, cast(Any, Quiet()))
        subscriber.write = lambda data: writes.append(self.turn)
        assert self.lane.can_join(subscriber)
        self.lane.join(subscriber)

    def publish(self, *numbers: int) -> None:
        self.window.extend([event(number) for number in numbers], make_id(numbers[-1]))
        for listener in self._reader.listeners:
            listener()

    async def stop(self) -> None:
        self._counting.cancel()
        await self.lane.stop()


@pytest.fixture
async def lane() -> AsyncIterator[Lane]:
    lane = Lane()
    yield lane
    await lane.stop()


@pytest.mark.parametrize("cohorts", [1, MANY])
async def test_no_more_than_a_few_hundred_writes_between_two_turns_of_the_loop(lane: Lane, cohorts: int) -> None:
    writes: list[int] = []
    for number in range(MANY):
        lane.join(EVERYTHING if cohorts == 1 else Filter(channel_globs(["a", f"other-{number}"])), writes)
    lane.publish(1, 2)
    await wait_until(lambda: len(writes) == MANY, "each member got one write for the batch")
    # Measured at 5 us a write: 400 take about 2 ms, a tenth of what is allowed.
    assert max(writes.count(number) for number in set(writes)) <= 400


async def test_choosing_among_many_cohorts_gives_the_loop_its_turn(lane: Lane) -> None:
    writes: list[int] = []
    for number in range(MANY):
        lane.join(Filter(channel_globs(["a", f"other-{number}"])), writes)
    begun = lane.turn
    lane.publish(*range(1, 101))
    await wait_until(lambda: len(writes) == MANY, "each member got one write for the batch")
    assert min(writes) - begun >= 100, "a turn for each 10,000 looks, before the first write"


async def test_who_joins_while_others_are_written_to_gets_nothing_of_the_batch(lane: Lane) -> None:
    first: list[int] = []
    second: list[int] = []
    late: list[int] = []
    for _ in range(450):
        lane.join(EVERYTHING, first)
    lane.join(Filter(channel_globs(["a"])), second)
    lane.publish(1)
    while len(first) < 400:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not second
    lane.join(Filter(channel_globs(["a"])), late)
    await wait_until(lambda: len(second) == 1, "the second cohort had its turn")
    assert not late
    lane.publish(2)
    await wait_until(lambda: len(late) == 1, "from the next batch on it belongs to them")
    assert len(second) == 2
