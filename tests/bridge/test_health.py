"""Since when an endpoint has been failing outlives a restart, and ends when somebody says that it is well again."""

from __future__ import annotations

import pytest

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from gateway.bridge.endpoint import Endpoint
from tests.bridge.fakeclock import FakeClock
from tests.bridge.receiver import Receiver, status
from tests.bridge.rig import Rig
from tests.bridge.test_schedules import ops, settled
from tests.support.wait import wait_until

DAYS = 5 * 86400


async def disabled(rig: Rig, endpoint: Endpoint) -> bool:
    stored = await rig.bridge.registry.get(endpoint.id)
    assert stored is not None
    return not stored.config.active


@pytest.mark.parametrize("how", ["enable", "change"])
async def test_who_is_enabled_again_has_five_days_more(redis_url: str, receiver: Receiver, how: str) -> None:
    clock = FakeClock()
    receiver.answer = lambda received: status(500)
    async with Rig(redis_url, clock=clock) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, DAYS, 3600, DAYS, 3600])
        await rig.publish()
        await settled(rig, endpoint, 1)
        clock.advance(DAYS * 1.1)
        await wait_until(lambda: disabled(rig, endpoint), "it is disabled")
        await wait_until(lambda: endpoint.id not in rig.worker.pumps, "and driven no more")
        if how == "enable":
            await Api(rig.bridge).switch(ANONYMOUS, endpoint.id, active=True)
        else:
            await Api(rig.bridge).change(ANONYMOUS, endpoint.id, {"active": True})
        await wait_until(lambda: endpoint.id in rig.worker.pumps, "it is driven again")
        clock.advance(3600 * 1.1)
        await settled(rig, endpoint, 3)
        assert (await ops(rig)).count("webhook.disabled") == 1
        clock.advance(DAYS * 1.1)
        await wait_until(lambda: disabled(rig, endpoint), "it is disabled once more")
        await settled(rig, endpoint, 4)
        assert (await ops(rig)).count("webhook.disabled") == 2


async def test_a_restart_does_not_begin_the_five_days_anew(redis_url: str, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    async with Rig(redis_url, clock=FakeClock()) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, DAYS, DAYS])
        await rig.publish()
        await settled(rig, endpoint, 1)
    later = FakeClock()
    async with Rig(redis_url, clock=later) as rig:
        await wait_until(lambda: endpoint.id in rig.worker.pumps, "it is driven")
        assert rig.worker.pumps[endpoint.id].breaker.limit == 1
        later.advance(DAYS * 1.1)
        await wait_until(lambda: disabled(rig, endpoint), "it is disabled")
        assert len(receiver.requests) == 2


async def test_a_success_begins_them_anew_for_the_next_owner_too(redis_url: str, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500 if len(receiver.requests) == 1 else 200)
    async with Rig(redis_url, clock=FakeClock()) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, 3600])
        await rig.publish()
        await settled(rig, endpoint, 1)
        await rig.publish()
        await wait_until(lambda: len(receiver.requests) == 2, "the second is delivered")
        await wait_until(lambda: rig.worker.pumps[endpoint.id].idle, "and written down")
    later = FakeClock()
    receiver.answer = lambda received: status(500)
    async with Rig(redis_url, clock=later) as rig:
        await wait_until(lambda: endpoint.id in rig.worker.pumps, "it is driven")
        assert rig.worker.pumps[endpoint.id].breaker.failing_since is None
        later.advance(DAYS * 1.1)
        await settled(rig, endpoint, 1)
        assert not await disabled(rig, endpoint)


@pytest.mark.parametrize("code", [301, 302, 304, 400, 401, 404, 500])
async def test_nothing_but_2xx_is_a_success(rig: Rig, receiver: Receiver, code: int) -> None:
    receiver.answer = lambda received: status(code, "Location: https://x.example/\r\n")
    endpoint = await rig.endpoint(receiver.url)
    await rig.publish()
    delivery = await settled(rig, endpoint, 1)
    assert (delivery.status, delivery.step, delivery.code) == ("retrying", 1, code)
