"""From XADD to the receiver, and into the ledger."""

from __future__ import annotations

import standardwebhooks

from tests.bridge.receiver import Receiver, status
from tests.bridge.rig import Rig
from tests.support.wait import wait_until


async def test_each_event_arrives_signed(rig: Rig, receiver: Receiver) -> None:
    endpoint = await rig.endpoint(receiver.url, events=["sms.*"])
    ids = await rig.publish(50)
    await rig.publish(3, type="voice.initiated")
    await wait_until(lambda: len(receiver.requests) >= 50, "all arrived")
    assert sorted(receiver.ids) == sorted(ids)
    for received in receiver.requests:
        assert standardwebhooks.Webhook(endpoint.secrets[0].text).verify(received.body, received.headers)
    await wait_until(lambda: _position_is(rig, endpoint.id), "the position is at the tail")
    assert await rig.statuses(endpoint) == ["delivered"] * 50


async def _position_is(rig: Rig, endpoint_id: str) -> bool:
    return await rig.bridge.ledger.position(endpoint_id) == (await rig.store.info("events")).last_id


async def test_a_failed_attempt_is_made_again(rig: Rig, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500 if len(receiver.requests) == 1 else 200)
    endpoint = await rig.endpoint(receiver.url, retry=[0, 0.1])
    (event_id,) = await rig.publish()
    await wait_until(lambda: len(receiver.requests) == 2, "tried twice")
    assert receiver.ids == [event_id] * 2
    assert receiver.requests[0].webhook_id == receiver.requests[1].webhook_id

    async def delivered() -> bool:
        return await rig.statuses(endpoint) == ["delivered"]

    await wait_until(delivered, "the log says so")
    delivery = await rig.bridge.ledger.log(endpoint.id, f"log_{event_id}")
    assert delivery is not None
    assert [attempt["status"] for attempt in delivery.history] == [500, 200]
    assert await rig.client.zcard(f"gateway:{{{endpoint.id}}}:retries") == 0
