"""A replay goes on after a restart, ends when it is cancelled, and holds nothing up."""

from __future__ import annotations

import asyncio
from collections import Counter

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.job import Job, read_jobs
from tests.bridge.fakeclock import FakeClock
from tests.bridge.receiver import OK, Received, Receiver
from tests.bridge.rig import Rig
from tests.bridge.test_hostile import hang
from tests.support.wait import wait_until


async def delivered(rig: Rig, receiver: Receiver, endpoint: Endpoint, count: int) -> None:
    """Wait until this many are delivered, and written down."""

    async def written() -> bool:
        return await rig.bridge.ledger.position(endpoint.id) == (await rig.store.info("events")).last_id

    await wait_until(lambda: len(receiver.requests) >= count, "delivered")
    await wait_until(written, "written down")


async def only_job(rig: Rig, endpoint: Endpoint) -> Job:
    (job,) = read_jobs(await rig.bridge.ledger.replays(endpoint.id))
    return job


async def test_a_replay_goes_on_where_it_was_after_a_restart(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url) as rig:
        endpoint = await rig.endpoint(receiver.url, max_in_flight=4)
        ids = await rig.publish(200)
        await delivered(rig, receiver, endpoint, 200)
        receiver.requests.clear()
        receiver.answer = lambda received: hang if len(receiver.requests) > 100 else OK
        await Api(rig.bridge).replays.begin(endpoint, {"since": "earliest"})
        await wait_until(lambda: len(receiver.requests) == 104, "half of it is delivered, and the next hang")
        hanging = receiver.ids[100:]
    receiver.answer = lambda received: OK
    async with Rig(redis_url) as rig:

        async def done() -> bool:
            return (await only_job(rig, endpoint)).status == "done"

        await wait_until(done, "the replay is over")
        job = await only_job(rig, endpoint)
    counts = Counter(receiver.ids)
    assert set(counts) == set(ids)
    assert {event_id for event_id, count in counts.items() if count > 1} == set(hanging)
    assert job.position == job.until


async def test_a_replay_that_is_over_does_not_come_back(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url) as rig:
        endpoint = await rig.endpoint(receiver.url)
        await rig.publish(3)
        await delivered(rig, receiver, endpoint, 3)
        await Api(rig.bridge).replays.begin(endpoint, {"since": "earliest"})

        async def done() -> bool:
            return (await only_job(rig, endpoint)).status == "done"

        await wait_until(done, "it is over")
    async with Rig(redis_url) as rig:
        (last,) = await rig.publish()
        await wait_until(lambda: last in receiver.ids, "what is new is delivered")
    assert len(receiver.requests) == 3 + 3 + 1


async def test_what_is_cancelled_is_delivered_no_more(redis_url: str, receiver: Receiver) -> None:
    clock = FakeClock()
    async with Rig(redis_url, clock=clock) as rig:
        endpoint = await rig.endpoint(receiver.url)
        await rig.publish(50)
        await delivered(rig, receiver, endpoint, 50)
        receiver.requests.clear()
        receiver.answer = lambda received: hang if len(receiver.requests) <= 2 else OK
        api = Api(rig.bridge)
        await api.change(ANONYMOUS, endpoint.id, {"max_in_flight": 2, "timeout": 1})
        pump = rig.worker.pumps[endpoint.id]
        await wait_until(lambda: pump.endpoint.config.max_in_flight == 2, "the bridge knows it")
        job = await api.replays.begin(endpoint, {"since": "earliest"})
        await wait_until(lambda: len(receiver.requests) == 2, "the replay has begun")
        await api.replays.cancel(endpoint, job["id"])
        await wait_until(lambda: not pump._intake.lanes.queued, "the bridge has heard of it")
        (live,) = await rig.publish()
        await wait_until(lambda: live in receiver.ids, "what is new is delivered")

        async def settled() -> bool:
            return pump.idle and (await rig.statuses(endpoint)).count("retrying") == 2

        await wait_until(settled, "what was in flight has ended")
        assert len(receiver.requests) == 3
        assert (await only_job(rig, endpoint)).status == "cancelled"


async def test_events_that_come_in_go_before_a_replay(redis_url: str, receiver: Receiver) -> None:
    go_on = asyncio.Event()

    async def wait(received: Received, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(OK)

    async with Rig(redis_url) as rig:
        endpoint = await rig.endpoint(receiver.url, max_in_flight=1)
        await rig.publish(50)
        await delivered(rig, receiver, endpoint, 50)
        receiver.requests.clear()
        receiver.answer = lambda received: wait
        await Api(rig.bridge).replays.begin(endpoint, {"since": "earliest"})
        await wait_until(lambda: receiver.requests, "the replay has begun")
        (live,) = await rig.publish()
        await wait_until(lambda: rig.worker.pumps[endpoint.id].main.queued, "it has come in")
        go_on.set()
        await wait_until(lambda: len(receiver.requests) == 51, "all is delivered")
        assert receiver.ids[1] == live
