"""API keys in a real Redis, and the ring that mirrors them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.access.keys import LENGTH, KeyRing, KeyStore, NoSuchKey
from gateway.backend.connection import Redis, connect
from tests.support.redisserver import RedisServer
from tests.support.tokens import make_key, with_store
from tests.support.wait import wait_until


@pytest.fixture
async def client(vault: RedisServer) -> AsyncIterator[Redis]:
    made = connect(vault.url, timeout=2.0)
    yield made
    await made.aclose()


@pytest.fixture
def store(client: Redis) -> KeyStore:
    return KeyStore(client, time.time, os.urandom)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


async def test_the_key_itself_is_not_kept(store: KeyStore, vault: RedisServer) -> None:
    record, key = await store.create("n", ["subscribe"], {"tenant": "t1", "channels": "a,b"})
    assert key.startswith("gwk_") and len(key) == LENGTH
    with vault.client() as client:
        stored = b"".join(client.dump(name) for name in client.keys("*"))
        content = b"".join(client.hgetall("gateway:{keys}").values())
    assert key.encode() not in content and key[4:].encode() not in stored
    assert key not in repr(record) and key not in repr(store)
    assert (await store.load())[record.id] == record


async def test_keys_stored_by_an_earlier_version_stay_good(store: KeyStore, vault: RedisServer) -> None:
    record, _ = await store.create("n", ["subscribe"], {})
    key = "gwk_" + "k" * (LENGTH - 4)
    digest = "f319390c8d3607c47166cd3b0a7c41880f2cfc3b3885d79803ccac2e6424fba4"  # SHA-256
    with vault.client() as client:
        stored = json.loads(client.hget("gateway:{keys}", record.id))
        client.hset("gateway:{keys}", record.id, json.dumps({**stored, "digest": digest}))
    ring = KeyRing(store, Clock(), time.time)
    assert await ring.refresh()
    assert await ring.find(key) == record.principal


@pytest.mark.parametrize(
    ("scopes", "rights"),
    [
        ([], {}),
        (["root"], {}),
        (["subscribe", "x"], {}),
        (["subscribe"], {"tenant": "a b"}),
        (["subscribe"], {"channels": ["\n"]}),
        (["subscribe"], {"expires_at": "x"}),
    ],
)
async def test_keys_that_make_no_sense(store: KeyStore, scopes: list[str], rights: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        await store.create("n", scopes, rights)
    assert await store.version() is None


async def test_a_key_is_good_at_once_and_a_revoked_one_is_not(store: KeyStore) -> None:
    clock = Clock()
    ring = KeyRing(store, clock, time.time)
    assert await ring.refresh()
    for _ in range(3):
        record, key = await store.create("n", ["subscribe"], {})
        assert await ring.find(key) == record.principal
    assert await ring.find(key) == record.principal  # once more: a key that was asked for is remembered
    await store.revoke(record.id)
    await ring.refresh()
    assert await ring.find(key) is None
    assert (await store.load())[record.id].revoked is not None
    with pytest.raises(NoSuchKey):
        await store.revoke("key_0000000000000000")


async def test_expiry(store: KeyStore) -> None:
    now = time.time()
    ring = KeyRing(store, Clock(), lambda: now)
    _, key = await store.create("n", ["subscribe"], {"expires_at": now + 10})
    await ring.refresh()
    assert await ring.find(key) is not None
    now += 10
    assert await ring.find(key) is None


async def test_a_change_replaces_only_what_it_names(store: KeyStore) -> None:
    record, _ = await store.create("n", ["subscribe"], {"tenant": "t", "channels": ["a"]}, {"replays": 3})
    changed = await store.change(record.id, None, {"channels": ["b"]}, {"filters": 1})
    rights = changed.principal
    assert rights.tenant == "t" and rights.channels is not None and rights.channels.globs == ("b",)
    assert rights.limits == {"replays": 3, "filters": 1} and rights.scopes == {"subscribe"}
    assert (await store.load())[record.id] == changed


async def test_neither_a_revocation_nor_a_change_is_undone(store: KeyStore, vault: RedisServer) -> None:
    record, _ = await store.create("n", ["subscribe"], {})

    async def change(n: int) -> None:
        await with_store(vault.url, lambda other: other.change(record.id, None, {}, {"replays": n}))

    await asyncio.gather(*(change(n) for n in range(20)), with_store(vault.url, lambda s: s.revoke(record.id)))
    assert (await store.load())[record.id].revoked is not None


async def test_a_flood_of_bad_keys_costs_redis_nothing(store: KeyStore, vault: RedisServer) -> None:
    clock = Clock()
    ring = KeyRing(store, clock, time.time)
    _, good = await store.create("n", ["subscribe"], {})
    await ring.refresh()
    clock.time += 1
    with vault.client() as client:
        before = client.info("commandstats")["cmdstat_get"]["calls"]
        bad = ("gwk_" + str(n).rjust(43, "x") for n in range(2000))
        assert set(await asyncio.gather(*map(ring.find, bad))) == {None}
        assert client.info("commandstats")["cmdstat_get"]["calls"] - before <= 2
    assert await ring.find(good) is not None
    assert await ring.find(good[:-1] + ("A" if good[-1] != "A" else "B")) is None
    assert await ring.find("gwk_" + "\udc80" * 43) is None


async def test_looks_are_at_most_ten_a_second(store: KeyStore, vault: RedisServer) -> None:
    ring = KeyRing(store, time.monotonic, time.time)
    began = time.monotonic()
    asking = []
    with vault.client() as client:
        for n in range(200):
            asking.append(asyncio.create_task(ring.find("gwk_" + str(n).rjust(43, "x"))))
            await asyncio.sleep(0.002)
        await asyncio.gather(*asking)
        looks = client.info("commandstats")["cmdstat_get"]["calls"]
    # However slow the machine, this many fit into the time that it took.
    assert 1 <= looks <= (time.monotonic() - began) / 0.1 + 1


async def test_with_redis_away_memory_answers(store: KeyStore, vault: RedisServer) -> None:
    clock = Clock()
    ring = KeyRing(store, clock, time.time)
    _, key = await store.create("n", ["subscribe"], {})
    await ring.refresh()
    vault.kill()
    clock.time += 100
    assert await ring.refresh() is False
    assert await ring.find(key) is not None
    assert await ring.find("gwk_" + "x" * 43) is None


async def test_once_closed_always_closed(store: KeyStore, vault: RedisServer) -> None:
    ring = KeyRing(store, Clock(), time.time)
    _, key = await store.create("n", ["subscribe"], {})
    heard = []
    ring.listeners.append(lambda: heard.append(1))
    await ring.refresh()
    with vault.client() as client:
        client.flushall()
    await ring.refresh()
    assert ring.ever_any and await ring.find(key) is None and len(heard) == 2
    _, again = await store.create("n", ["subscribe"], {})
    await ring.refresh()
    assert await ring.find(again) is not None


async def test_a_record_that_cannot_be_read_lets_nobody_in(store: KeyStore, vault: RedisServer) -> None:
    record, key = await store.create("n", ["subscribe"], {"tenant": "t"})
    _, fine = await store.create("m", ["subscribe"], {})
    for raw in (b"{}", b"x", b"[]", b'{"scopes":["admin"],"digest":1}', b"null"):
        with vault.client() as client:
            client.hset("gateway:{keys}", record.id, raw)
            client.set("gateway:{keys}:version", os.urandom(4))
        ring = KeyRing(store, Clock(), time.time)
        assert await ring.refresh()
        assert await ring.find(key) is None and await ring.find(fine) is not None


async def test_the_ring_keeps_up_by_itself(store: KeyStore, vault: RedisServer) -> None:
    ring = KeyRing(store, time.monotonic, time.time)
    keeping = asyncio.create_task(ring.run())
    record, _ = await make_key(vault.url)
    await wait_until(lambda: ring.current(record.id) is not None)
    await with_store(vault.url, lambda other: other.revoke(record.id))
    await wait_until(lambda: ring.current(record.id) is None)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await ring.stop()


async def test_the_ring_tells_of_the_end_of_a_key(store: KeyStore) -> None:
    now, clock, heard = time.time(), Clock(), []
    ring = KeyRing(store, clock, lambda: now)
    records = [(await store.create("n", ["subscribe"], {"expires_at": now + end}))[0] for end in (10, 20)]
    await ring.refresh()
    ring.listeners.append(lambda: heard.append([ring.current(record.id) is not None for record in records]))
    keeping = asyncio.create_task(ring.run())

    async def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds
        looked = ring._looked
        clock.time += 100
        await wait_until(lambda: ring._looked > looked)

    await pass_time(9)
    assert heard == []
    await pass_time(1)
    await wait_until(lambda: heard == [[False, True]])
    await pass_time(1)
    await pass_time(9)
    await wait_until(lambda: heard == [[False, True], [False, False]])
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await ring.stop()


async def test_what_redis_has_not_is_asked_for_once(store: KeyStore, vault: RedisServer) -> None:
    clock = Clock()
    ring = KeyRing(store, clock, time.time)
    await store.create("n", ["subscribe"], {})
    await ring.refresh()
    bad = "gwk_" + "x" * 43
    with pytest.raises(LookupError):
        ring.recall(bad)
    clock.time += 1
    assert await ring.find(bad) is None
    assert ring.recall(bad) is None
    assert ring.recall("gwk_short") is None and ring.recall("gwk_" + "é" * 43) is None
    vault.kill()
    with pytest.raises(LookupError):
        ring.recall("gwk_" + "y" * 43)
    clock.time += 1
    assert await ring.find("gwk_" + "y" * 43) is None
    with pytest.raises(LookupError):
        ring.recall("gwk_" + "y" * 43)  # nobody has said that it is not there
