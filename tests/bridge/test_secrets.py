"""Secrets at rest."""

from __future__ import annotations

import pytest

from gateway.bridge.secretbox import SecretBox, SecretUnreadable
from tests.bridge.receiver import Receiver
from tests.bridge.rig import Rig
from tests.support.wait import wait_until


def test_sealed_opens_with_the_same_key_for_the_same_owner_only() -> None:
    box = SecretBox("a key with entropy")
    sealed = box.seal("whsec_x", "whk_1")
    assert "whsec_x" not in sealed
    assert sealed != box.seal("whsec_x", "whk_1")
    assert box.open(sealed, "whk_1") == "whsec_x"
    for other, owner in ((SecretBox("another key"), "whk_1"), (SecretBox(None), "whk_1"), (box, "whk_2")):
        with pytest.raises(SecretUnreadable):
            other.open(sealed, owner)
    # What was stored before there was a key still opens.
    assert box.open("whsec_plain", "whk_1") == "whsec_plain"


async def test_nothing_in_redis_shows_the_secret(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, secret_key="a key with entropy") as rig:
        endpoint = await rig.endpoint(receiver.url)
        stored = await rig.client.hget("gateway:webhooks", endpoint.id)
        assert endpoint.secrets[0].text.encode() not in stored
        again = await rig.bridge.registry.get(endpoint.id)
        assert again is not None
        assert again.secrets == endpoint.secrets


async def test_without_the_key_an_endpoint_waits_and_its_secret_stays(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, secret_key="a key with entropy") as rig:
        endpoint = await rig.endpoint(receiver.url)
    async with Rig(redis_url, works=False) as poor:
        found = await poor.bridge.registry.get(endpoint.id)
        assert found is not None
        assert (found.config.active, found.disabled_reason, found.secrets) == (False, "secret_unreadable", ())
        with pytest.raises(SecretUnreadable):
            await poor.bridge.registry.change(endpoint.id, lambda it: it)
        (event_id,) = await poor.publish()
    async with Rig(redis_url, secret_key="a key with entropy"):
        await wait_until(lambda: receiver.ids == [event_id], "with the key it goes on")
