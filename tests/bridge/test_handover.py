"""Two bridges over one Redis: what one is at when it leaves is finished, written down, and not done again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import Commit
from gateway.bridge.parts import Pace
from tests.bridge.receiver import Held, Receiver
from tests.bridge.rig import Rig
from tests.support.wait import wait_until

# Long enough that nothing moves because a lease has run out.
CALM = Pace(lease=60.0, sweep=0.2, patience=10.0)


async def endpoint_of(rig: Rig, other: Rig, url: str) -> Endpoint:
    """One that `rig` drives, at most two attempts at a time."""
    await wait_until(lambda: rig.worker._leases.held == other.worker._leases.held == 32, "they share")
    while True:
        made = await rig.endpoint(url, driven=False, max_in_flight=2)
        await wait_until(lambda it=made: it.id in {**rig.worker.pumps, **other.worker.pumps}, "it is driven")
        if made.id in rig.worker.pumps:
            return made
        await rig.bridge.registry.delete(made.id)


async def test_who_leaves_finishes_what_is_in_flight(redis_url: str, receiver: Receiver) -> None:
    held = Held(receiver)
    async with Rig(redis_url, pace=CALM, alone=False) as stays, Rig(redis_url, pace=CALM, alone=False) as leaves:
        endpoint = await endpoint_of(leaves, stays, receiver.url)
        ids = await stays.publish(10)
        await wait_until(lambda: len(receiver.requests) == 2, "two are in flight")
        leaving = asyncio.create_task(leaves.bridge.stop())
        await wait_until(lambda: stays.worker._leases.held == 63, "shards without work move at once")
        assert endpoint.id not in stays.worker.pumps
        assert len(receiver.requests) == 2
        held.go_on.set()
        await leaving
        await wait_until(lambda: endpoint.id in stays.worker.pumps, "the other has it")
        await wait_until(lambda: set(receiver.ids) == set(ids), "all is delivered")
        assert sorted(receiver.ids) == ids

        async def written() -> bool:
            return await stays.statuses(endpoint) == ["delivered"] * 10

        await wait_until(written, "and written down")


async def test_who_leaves_lets_go_only_when_it_is_written_down(redis_url: str, receiver: Receiver) -> None:
    held, writing, write = Held(receiver), asyncio.Event(), asyncio.Event()
    async with Rig(redis_url, pace=CALM, alone=False) as stays, Rig(redis_url, pace=CALM, alone=False) as leaves:
        endpoint = await endpoint_of(leaves, stays, receiver.url)
        ids = await stays.publish(10)
        await wait_until(lambda: len(receiver.requests) == 2, "two are in flight")
        ledger = leaves.bridge.ledger
        commit = ledger.commit

        async def slowly(commits: Sequence[Commit]) -> list[bool]:
            writing.set()
            await write.wait()
            return await commit(commits)

        ledger.commit = slowly  # type: ignore[method-assign]
        leaving = asyncio.create_task(leaves.bridge.stop())
        await wait_until(lambda: stays.worker._leases.held == 63, "the other shards have moved")
        held.go_on.set()
        await writing.wait()
        # Less than it has patience for, and more than it takes to move.
        await asyncio.wait([leaving], timeout=0.5)
        assert not leaving.done()
        assert endpoint.id not in stays.worker.pumps
        write.set()
        await leaving
        await wait_until(lambda: set(receiver.ids) == set(ids), "all is delivered")
        assert sorted(receiver.ids) == ids
