"""Two bridges over one Redis: what one is at when it leaves is finished, written down, and not done again."""

from __future__ import annotations

import asyncio

from gateway.bridge.parts import Pace
from tests.bridge.receiver import OK, Received, Receiver
from tests.bridge.rig import Rig
from tests.support.wait import wait_until

# Long enough that nothing moves because a lease has run out.
CALM = Pace(lease=60.0, sweep=0.2, patience=10.0)


async def test_who_leaves_finishes_what_is_in_flight(redis_url: str, receiver: Receiver) -> None:
    go_on = asyncio.Event()

    async def wait(received: Received, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(OK)

    async with Rig(redis_url, pace=CALM, alone=False) as stays, Rig(redis_url, pace=CALM, alone=False) as leaves:
        await wait_until(lambda: leaves.worker._leases.held == 32, "they share")
        while True:
            endpoint = await stays.endpoint(receiver.url, driven=False, max_in_flight=2)
            await wait_until(
                lambda it=endpoint: it.id in leaves.worker.pumps or it.id in stays.worker.pumps, "it is driven"
            )
            if endpoint.id in leaves.worker.pumps:
                break
            await stays.bridge.registry.delete(endpoint.id)
        receiver.answer = lambda received: wait
        ids = await stays.publish(10)
        await wait_until(lambda: len(receiver.requests) == 2, "two are in flight")
        leaving = asyncio.create_task(leaves.bridge.stop())
        await wait_until(lambda: stays.worker._leases.held >= 40, "shards without work move at once")
        assert endpoint.id not in stays.worker.pumps
        assert len(receiver.requests) == 2
        go_on.set()
        await leaving
        await wait_until(lambda: endpoint.id in stays.worker.pumps, "the other has it")
        await wait_until(lambda: set(receiver.ids) == set(ids), "all is delivered")
        assert sorted(receiver.ids) == ids

        async def written() -> bool:
            return await stays.statuses(endpoint) == ["delivered"] * 10

        await wait_until(written, "and written down")
