"""Nothing is lost: bridges and Redis are killed while a receiver writes down what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.backend.connection import UNAVAILABLE
from gateway.events.position import parse_id
from tests.bridge.child import READY
from tests.bridge.receiver import Receiver, status
from tests.bridge.rig import Rig
from tests.support.child import Child
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until


class Bridges:
    """Bridge processes over one Redis."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._started: list[Child] = []

    async def start(self, *failpoint: str) -> Child:
        log = self._folder / f"bridge{len(self._started)}.log"
        child = Child([sys.executable, "-m", "tests.bridge.child", self.url, *failpoint], log)
        self._started.append(child)
        await wait_until(lambda: READY in child.output() or not child.running, "the bridge runs", 60)
        return child

    def stop(self) -> None:
        for child in self._started:
            child.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Acknowledged means on disk: SIGKILL loses nothing."""
    it = RedisServer("valkey", tmp_path / "redis", fsync="always").start()
    yield it
    it.stop()


@pytest.fixture
async def rig(server: RedisServer) -> AsyncIterator[Rig]:
    """Makes endpoints and events; delivers nothing."""
    async with Rig(server.url, works=False) as it:
        yield it


@pytest.fixture
def bridges(server: RedisServer, tmp_path: Path) -> Iterator[Bridges]:
    it = Bridges(server.url, tmp_path)
    yield it
    it.stop()


@pytest.mark.parametrize("place", ["posted", "committed"])
async def test_killed_at_the_worst_moment(rig: Rig, bridges: Bridges, receiver: Receiver, place: str) -> None:
    endpoint = await rig.endpoint(receiver.url, driven=False)
    ids = await rig.publish(300)
    # Each commit carries many deliveries, so there are few commits to die after.
    doomed = await bridges.start(place, "100" if place == "posted" else "2")
    await wait_until(lambda: not doomed.running, "it has died")
    seen = Counter(receiver.ids)
    assert seen
    await bridges.start()
    await wait_until(lambda: set(receiver.ids) == set(ids), "nothing is lost", 60)

    async def settled() -> bool:
        return await rig.bridge.ledger.position(endpoint.id) == parse_id(ids[-1])

    await wait_until(settled, "all is committed")
    counts = Counter(receiver.ids)
    again = sum(count - 1 for count in counts.values())
    # Whatever came twice had come before the death: nothing but what was in flight or not yet committed.
    assert again <= sum(seen.values())
    assert max(counts.values()) == 2 or not again
    assert await rig.statuses(endpoint) == ["delivered"] * 300


async def test_loss_is_zero_under_fire(
    rig: Rig, server: RedisServer, bridges: Bridges, receiver: Receiver, tmp_path: Path
) -> None:
    crooked = await Receiver(answer=lambda received: status(500 if len(crooked.requests) % 3 else 204)).start()
    endpoints = [await rig.endpoint(receiver.url, driven=False) for _ in range(4)]
    endpoints += [await rig.endpoint(crooked.url, driven=False, retry=[0, *[0.2] * 60])]
    wanted: list[str] = []

    fire_over = asyncio.Event()

    async def publish() -> None:
        # As long as there is fire: what comes after the last event would not be under it.
        while not fire_over.is_set():
            with contextlib.suppress(*UNAVAILABLE):
                wanted.extend(await rig.publish(10))
            await asyncio.sleep(0.1)

    publishing = asyncio.create_task(publish())
    running = [await bridges.start(), await bridges.start()]
    for round_ in range(3):
        before = len(receiver.requests)
        await wait_until(lambda before=before: len(receiver.requests) >= before + 100, "deliveries go on", 60)
        running.pop(0).kill()
        if round_ == 1:
            server.kill()
            server.start()
        running.append(await bridges.start())
    fire_over.set()
    await publishing

    def missing() -> int:
        healthy, bent = Counter(receiver.ids), Counter(crooked.ids)
        return sum(healthy[it] < 4 for it in wanted) + sum(not bent[it] for it in wanted)

    await wait_until(lambda: not missing(), lambda: f"{missing()} are missing", 90)
    counts = Counter(receiver.ids)
    duplicates = sum(counts[it] - 4 for it in wanted)
    # Five deaths, at most 16 in flight and one batch uncommitted an endpoint each time.
    assert duplicates < 0.2 * 4 * len(wanted), duplicates
    assert set(counts) >= set(wanted)

    async def settled() -> bool:
        positions = await rig.bridge.ledger.positions([it.id for it in endpoints])
        retries = [(await rig.bridge.ledger.retries(it.id, 1))[1] for it in endpoints]
        return min(positions) == parse_id(wanted[-1]) and not any(retries)

    await wait_until(settled, "every position is at the end, and no retry is left", 60)
    await crooked.stop()


async def test_an_owner_that_was_overtaken_writes_nothing(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url) as rig:
        endpoint = await rig.endpoint(receiver.url)
        await rig.publish(5)
        await wait_until(lambda: len(receiver.requests) == 5, "delivered")
        await wait_until(lambda: rig.worker.pumps[endpoint.id].idle, "written")
        old = rig.worker.pumps[endpoint.id]
        # Somebody else claims it behind the back of its owner, who still holds the lease.
        assert await rig.bridge.ledger.claim(endpoint.id, await rig.bridge.ledger.next_epoch()) is not None
        before = await rig.bridge.ledger.position(endpoint.id)
        (event_id,) = await rig.publish()
        await wait_until(lambda: rig.worker.pumps.get(endpoint.id) not in (None, old), "it notices and claims anew")
        await wait_until(lambda: receiver.ids.count(event_id) == 2, "what could not be written is delivered again")
        after = await rig.bridge.ledger.position(endpoint.id)
        assert before is not None
        assert after is not None
        assert before <= after


async def test_shards_move_when_a_bridge_dies_and_are_shared_when_one_joins(
    rig: Rig, bridges: Bridges, receiver: Receiver
) -> None:
    for _ in range(8):
        await rig.endpoint(receiver.url, driven=False)
    first = await bridges.start()
    await rig.publish()
    await wait_until(lambda: len(receiver.requests) == 8, "all are driven", 30)
    await bridges.start()
    first.kill()
    (last,) = await rig.publish()
    await wait_until(lambda: receiver.ids.count(last) == 8, "the other has taken over", 30)
