"""A secret that was replaced signs too, until its time."""

from __future__ import annotations

import pytest
import standardwebhooks

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from tests.bridge.fakeclock import FakeClock
from tests.bridge.receiver import Received, Receiver
from tests.bridge.rig import Rig
from tests.support.wait import wait_until


def signed_with(received: Received, *secrets: str) -> list[bool]:
    """For each secret, whether the request was signed with it."""
    found = []
    for secret in secrets:
        try:
            standardwebhooks.Webhook(secret).verify(received.body, received.headers)
            found.append(True)
        except standardwebhooks.WebhookVerificationError:
            found.append(False)
    return found


async def test_the_old_secret_signs_until_its_time_and_not_after(redis_url: str, receiver: Receiver) -> None:
    clock = FakeClock()
    async with Rig(redis_url, clock=clock, secret_key="a key with entropy") as rig:
        endpoint = await rig.endpoint(receiver.url)
        old = endpoint.secrets[0].text
        await rig.publish()
        await wait_until(lambda: len(receiver.requests) == 1, "delivered")
        rotated = await Api(rig.bridge).rotate(ANONYMOUS, endpoint.id, {"overlap_seconds": 60})
        new = rotated["secret"]
        pump = rig.worker.pumps[endpoint.id]
        await wait_until(lambda: pump.endpoint.secrets[0].text == new, "the bridge knows it")
        for number, wait in enumerate((0, 59.9, 0.2), 2):
            clock.advance(wait)
            await rig.publish()
            await wait_until(lambda number=number: len(receiver.requests) == number, "delivered")
        assert [signed_with(it, old, new) for it in receiver.requests] == [
            [True, False],
            [True, True],
            [True, True],
            [False, True],
        ]


@pytest.mark.parametrize(("dialect", "header"), [("truedy", "x-truedy-signature"), ("trunx", "x-trunx-signature")])
async def test_where_there_is_room_for_one_the_new_one_signs(
    rig: Rig, receiver: Receiver, dialect: str, header: str
) -> None:
    endpoint = await rig.endpoint(receiver.url, dialect=dialect)
    answer = await Api(rig.bridge).rotate(ANONYMOUS, endpoint.id, {"overlap_seconds": 60})
    assert answer["previous_valid_until"] is None
    pump = rig.worker.pumps[endpoint.id]
    await wait_until(lambda: pump.endpoint.secrets[0].text == answer["secret"], "the bridge knows it")
    (event_id,) = await rig.publish()
    await wait_until(lambda: receiver.requests, "delivered")
    assert len(receiver.requests[0].headers[header]) == 64, event_id
