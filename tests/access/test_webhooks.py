"""Endpoints, their deliveries and their logs: each caller meets their own only, also after rights have changed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from gateway.events.jsontext import loads
from tests.bridge.receiver import Receiver
from tests.support.inprocess import Here, serve_here
from tests.support.redisserver import RedisServer
from tests.support.rights import Caller
from tests.support.tokens import bearer, make_key, with_store
from tests.support.wait import wait_until

CALLERS = [
    Caller("all", "webhooks publish"),
    Caller("admin", "admin"),
    Caller("t1", "webhooks", {"tenant": "t1"}),
    Caller("t1 too", "webhooks", {"tenant": "t1"}),
    Caller("t2", "webhooks", {"tenant": "t2"}),
    Caller("t1 channel a", "webhooks", {"tenant": "t1", "channels": ["a"]}),
    Caller("channels a, b", "webhooks", {"channels": ["a", "b"]}),
    Caller("types a.*", "webhooks", {"types": ["a.*"]}),
    Caller("other stream", "webhooks", {"streams": ["t.x"]}),
    Caller("reader", "subscribe publish"),
]
EVENTS = [
    {"type": type_, "channel": channel, "tenant": tenant}
    for type_ in ("a.x", "b.x")
    for channel in ("a", "b")
    for tenant in ("t1", "t2", None)
]


@pytest.fixture
async def here(vault: RedisServer) -> AsyncIterator[Here]:
    settings: dict[str, Any] = {"webhook_allow_http": True, "webhook_allow_cidrs": ["127.0.0.0/8"]}
    async with serve_here(vault.url, **settings) as it:
        assert it.gateway.bridge is not None
        worker = it.gateway.bridge.worker
        await wait_until(lambda: worker is not None and worker._leases.held == 64, "shards are held", 60)
        yield it


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = await Receiver().start()
    yield made
    await made.stop()


class World:
    """The gateway by HTTP, on behalf of any caller."""

    def __init__(self, here: Here, vault: RedisServer, receiver: Receiver, http: httpx.AsyncClient) -> None:
        self.vault, self.receiver, self.http, self.here = vault, receiver, http, here
        self.keys: dict[str, tuple[str, str]] = {}

    async def make_keys(self) -> None:
        for caller in CALLERS:
            record, key = await make_key(self.vault.url, caller.scopes, **caller.rights)
            self.keys[caller.name] = record.id, key

    async def ask(self, caller: str, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, f"/api/webhooks{path}", headers=bearer(self.keys[caller][1]), **options)

    async def create(self, caller: str, path: str, **fields: Any) -> httpx.Response:
        body = {"url": self.receiver.url + path, "events": ["*"], "stream": "t.a", **fields}
        return await self.ask(caller, "POST", "", json=body)

    async def publish(self, mark: str) -> None:
        events = [{**event, "data": mark, "stream": "t.a"} for event in EVENTS]
        headers = bearer(self.keys["all"][1])
        assert (await self.http.post("/api/events", json=events, headers=headers)).status_code == 201

    def received(self, path: str, mark: str) -> list[tuple[str, str, str]]:
        found = [loads(request.body) for request in self.receiver.requests if request.path.endswith(path)]
        return sorted((e["type"], e["channel"], e.get("tenant") or "") for e in found if e["data"] == mark)


@pytest.fixture
async def world(here: Here, vault: RedisServer, receiver: Receiver) -> AsyncIterator[World]:
    async with httpx.AsyncClient(base_url=here.url, timeout=30) as http:
        made = World(here, vault, receiver, http)
        await made.make_keys()
        yield made


OTHERS = [
    {"type": type_, "channel": channel, "tenant": tenant}
    for type_ in ("a.y", "z.z")
    for channel in ("a", "b", "c")
    for tenant in ("t1", "t2", "t3", None)
]
"""Events that nobody publishes, but might."""


def visible(caller: Caller, events: list[dict[str, Any]] = EVENTS) -> list[tuple[str, str, str]]:
    found = [event for event in events if caller.sees({**event, "stream": "t.a"})]
    return sorted((e["type"], e["channel"], e["tenant"] or "") for e in found)


async def test_each_caller_meets_their_own(world: World) -> None:
    made: dict[str, str] = {}
    for number, caller in enumerate(CALLERS):
        answer = await world.create(caller.name, f"/{number}")
        allowed = caller.has("webhooks") and caller.reads("t.a")
        assert answer.status_code == (201 if allowed else 403), (caller.name, answer.text)
        if allowed:
            made[caller.name] = answer.json()["id"]
            assert answer.json()["tenant"] == caller.rights.get("tenant")
    await world.publish("first")
    for number, caller in enumerate(CALLERS):
        if caller.name in made:
            wanted = visible(caller)
            await wait_until(lambda n=number, w=wanted: len(world.received(f"/{n}", "first")) >= len(w), caller.name)
    by_name = {caller.name: caller for caller in CALLERS}
    for number, caller in enumerate(CALLERS):
        if caller.name in made:
            assert world.received(f"/{number}", "first") == visible(caller), caller.name
    for caller in CALLERS:
        if not caller.has("webhooks"):
            assert (await world.ask(caller.name, "GET", "")).status_code == 403
            continue
        listed = {it["id"] for it in (await world.ask(caller.name, "GET", "")).json()["webhooks"]}
        theirs = set(visible(caller, EVENTS + OTHERS))
        for owner, endpoint in made.items():
            may = set(visible(by_name[owner], EVENTS + OTHERS)) <= theirs
            assert (endpoint in listed) == may, f"{caller.name} looks at the endpoint of {owner}"
            for method, path in (("GET", ""), ("GET", "/logs"), ("PATCH", ""), ("POST", "/test"), ("POST", "/replay"),
                                 ("POST", "/rotate-secret"), ("POST", "/disable"), ("DELETE", "")):  # fmt: skip
                if not may:
                    answer = await world.ask(caller.name, method, f"/{endpoint}{path}", json={})
                    assert answer.status_code == 404, f"{caller.name} {method} {path} of {owner}"


async def test_more_than_is_allowed(world: World) -> None:
    for fields, named in (
        ({"tenant": "t2"}, "tenant t2"),
        ({"channels": ["b"]}, "channel b"),
        ({"channels": ["a", "a*"]}, "channel a*"),
        ({"stream": "gateway:ops"}, "stream gateway:ops"),
    ):
        answer = await world.create("t1 channel a", "/x", **fields)
        assert answer.status_code == 403 and named in answer.json()["detail"], fields
    own = (await world.create("t1 channel a", "/x")).json()["id"]
    for change in ({"tenant": "t2"}, {"channels": ["b"]}):
        assert (await world.ask("t1 channel a", "PATCH", f"/{own}", json=change)).status_code == 403
    wide = (await world.create("t1", "/y", channels=["a"])).json()["id"]
    assert (await world.ask("t1 channel a", "PATCH", f"/{wide}", json={"channels": []})).status_code == 200
    await world.publish("wider")
    await wait_until(lambda: len(world.received("/y", "wider")) >= 2)
    await wait_until(lambda: len(world.received("/x", "wider")) >= 2)
    assert {channel for _, channel, _ in world.received("/y", "wider")} == {"a"}, "a change widens nobody's rights"


async def test_a_narrowed_and_a_revoked_key(world: World) -> None:
    own = (await world.create("channels a, b", "/n")).json()["id"]
    await world.create("all", "/all")
    await world.publish("before")
    await wait_until(lambda: len(world.received("/n", "before")) == len(EVENTS))
    key_id, _ = world.keys["channels a, b"]

    async def lines() -> list[Any]:
        answer = await world.ask("channels a, b", "GET", f"/{own}/logs", params={"limit": 100})
        return [line["id"] for line in answer.json()["logs"]] if answer.status_code == 200 else []

    async def logged() -> bool:
        return len(await lines()) == len(EVENTS)

    await wait_until(logged)
    before = await lines()
    await with_store(world.vault.url, lambda store: store.change(key_id, None, {"channels": ["a"]}))

    async def narrowed() -> bool:
        return len(await lines()) == len(EVENTS) // 2

    await wait_until(narrowed, "lines of channel b are gone from its sight")
    hidden = set(before) - set(await lines())
    for log_id in hidden:
        for method, path in (("GET", ""), ("POST", "/resend")):
            answer = await world.ask("channels a, b", method, f"/{own}/logs/{log_id}{path}")
            assert answer.status_code == 404
        assert (await world.ask("all", "GET", f"/{own}/logs/{log_id}")).status_code == 200
    worker = world.here.gateway.bridge.worker  # type: ignore[union-attr]
    assert worker is not None
    await wait_until(lambda: not worker._roster.endpoints[own].filter.accepts("t1", "b", "a.x"))
    await world.publish("narrowed")
    await wait_until(lambda: len(world.received("/all", "narrowed")) == len(EVENTS))
    await wait_until(lambda: len(world.received("/n", "narrowed")) == len(EVENTS) // 2)
    assert {channel for _, channel, _ in world.received("/n", "narrowed")} == {"a"}
    await with_store(world.vault.url, lambda store: store.revoke(key_id))
    await wait_until(lambda: own not in worker._roster.endpoints, "it rests")
    await world.publish("revoked")
    await wait_until(lambda: len(world.received("/all", "revoked")) == len(EVENTS))
    assert world.received("/n", "revoked") == []
    assert (await world.ask("all", "POST", f"/{own}/enable")).status_code == 200, "another takes it over"
    await wait_until(lambda: len(world.received("/n", "revoked")) >= len(EVENTS), "and nothing is lost")


async def test_a_key_whose_time_is_over(world: World) -> None:
    own = (await world.create("channels a, b", "/n")).json()["id"]
    worker = world.here.gateway.bridge.worker  # type: ignore[union-attr]
    assert worker is not None
    await wait_until(lambda: own in worker._roster.endpoints)
    key_id, _ = world.keys["channels a, b"]
    soon = {"expires_at": time.time() + 3}
    await with_store(world.vault.url, lambda store: store.change(key_id, None, soon))
    # The bridge reads all endpoints anew every 30 s anyway, which is longer than this waits.
    await wait_until(lambda: own not in worker._roster.endpoints, "it rests")
    assert time.time() >= soon["expires_at"]
