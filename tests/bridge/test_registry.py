"""Endpoints and their owners in Redis, where several processes write at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import Commit
from tests.bridge.receiver import Receiver
from tests.bridge.rig import Rig
from tests.support.wait import wait_until

URL = "https://x.example/"


async def test_no_change_is_lost(redis_url: str) -> None:
    async with Rig(redis_url, works=False) as rig:
        made = await rig.endpoint(URL, driven=False)

        def edit(it: Endpoint) -> Endpoint:
            return replace(it, config=it.config.model_copy(update={"description": it.config.description + "x"}))

        await asyncio.gather(*(rig.bridge.registry.change(made.id, edit) for _ in range(3)))
        changed = await rig.bridge.registry.get(made.id)
        assert changed is not None
        assert changed.config.description == "xxx"


async def test_a_later_owner_keeps_an_earlier_one_out(redis_url: str) -> None:
    async with Rig(redis_url, works=False) as rig:
        made = await rig.endpoint(URL, driven=False)
        ledger = rig.bridge.ledger
        early, late = await ledger.next_epoch(), await ledger.next_epoch()
        assert await ledger.claim(made.id, late) is not None
        assert await ledger.claim(made.id, early) is None
        written = [Commit(made.id, early, state={"position": "9-9"}), Commit(made.id, late, state={"position": "5-5"})]
        assert await ledger.commit(written) == [False, True]
        assert (await ledger.facts(made.id))["position"] == "5-5"


async def test_what_is_announced_before_all_are_loaded_again_is_heard(rig: Rig, receiver: Receiver) -> None:
    """A resend waits in the ledger, and only the announcement tells of it."""
    endpoint = await rig.endpoint(receiver.url)
    roster, looked = rig.worker._roster, list[str]()
    changes = roster._waiting.changes

    async def touched(endpoint_id: str) -> None:
        looked.append(endpoint_id)

    async def announced_just_then(after: str, block_ms: int) -> tuple[str, list[str]]:
        found = await changes(after, block_ms)
        roster._waiting.changes = changes  # type: ignore[method-assign]
        rig.worker.rights_changed()
        await rig.bridge.registry.announce(endpoint.id)
        return found

    roster._touched = touched
    roster._waiting.changes = announced_just_then  # type: ignore[method-assign]
    await wait_until(lambda: endpoint.id in looked, "it is heard")
