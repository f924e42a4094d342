"""What belongs to a tenant goes to that tenant: events, and what is told of their delivery."""

from __future__ import annotations

import asyncio

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from gateway.events.event import Event
from gateway.events.position import ZERO
from tests.bridge.receiver import OK, Received, Receiver, status
from tests.bridge.rig import Rig
from tests.support.wait import wait_until


async def of_each(rig: Rig) -> str:
    """An event of each of two tenants and of nobody; the id of the first tenant's."""
    mine = (await rig.publish(tenant="t1"))[0]
    await rig.publish(tenant="t2")
    await rig.publish()
    return mine


async def told(rig: Rig, stream: str) -> list[Event]:
    entries, _ = await rig.store.page(stream, ZERO, 100)
    return [it for it in entries if isinstance(it, Event)]


async def test_an_endpoint_of_a_tenant_gets_its_events_only(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as rig:
        await rig.endpoint(receiver.url, driven=False, tenant="t1")
        mine = [await of_each(rig)]
    async with Rig(redis_url) as rig:
        await wait_until(lambda: receiver.ids == mine, "from the log")
        for _ in range(3):
            mine.append(await of_each(rig))
        await wait_until(lambda: len(receiver.ids) >= 4, "and live")
        every = await rig.endpoint(receiver.url + "/every")
        await of_each(rig)
        await wait_until(lambda: len([it for it in receiver.requests if it.path == "/hook/every"]) == 3, "all")
        assert every.config.tenant is None
    assert len([it for it in receiver.requests if it.path == "/hook"]) == 5
    assert all(b'"tenant":"t1"' in it.body for it in receiver.requests if it.path == "/hook")


async def test_what_is_told_is_told_to_the_tenant(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, streams=("events", "t.replies")) as rig:
        failing = await Receiver(answer=lambda received: status(500)).start()
        await rig.endpoint(failing.url, tenant="t1", retry=[0])
        await rig.endpoint(receiver.url, reply_stream="t.replies")
        await of_each(rig)

        async def replied() -> bool:
            return len(await told(rig, "t.replies")) == 3

        await wait_until(replied, "the replies are there")
        replies = await told(rig, "t.replies")
        assert sorted(it.tenant or "" for it in replies) == ["", "t1", "t2"]
        sent = {it.id: it.tenant for it in await told(rig, "events")}
        assert len(sent) == 3
        for it in replies:
            assert (b'"tenant"' in it.data) is False
            (event_id,) = (one for one in sent if f'"event_id":"{one >> 64}-{one & (1 << 64) - 1}"'.encode() in it.data)
            assert it.tenant == sent[event_id]

        async def exhausted() -> list[Event]:
            return await told(rig, "gateway:ops")

        (notice,) = await wait_until(exhausted, "it is told")
        assert (notice.type, notice.tenant) == ("webhook.exhausted", "t1")
        await failing.stop()


async def test_what_is_not_wanted_any_more_is_not_sent(rig: Rig, receiver: Receiver) -> None:
    go_on = asyncio.Event()

    async def wait(received: Received, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        writer.write(OK)

    receiver.answer = lambda received: wait
    endpoint = await rig.endpoint(receiver.url, max_in_flight=1)
    first = (await rig.publish(5))[0]
    pump = rig.worker.pumps[endpoint.id]
    await wait_until(lambda: pump.main.queued == 4 and len(receiver.requests) == 1, "one is in flight, the others wait")
    await Api(rig.bridge).change(ANONYMOUS, endpoint.id, {"events": ["voice.*"]})
    await wait_until(lambda: pump.endpoint.config.events == ("voice.*",), "the bridge knows it")
    await wait_until(lambda: pump.main.live, "it has looked at them again")
    go_on.set()
    (last,) = await rig.publish(type="voice.answered")
    await wait_until(lambda: last in receiver.ids, "what it wants now is delivered")
    assert receiver.ids == [first, last]
