"""Caller x way in x stream x filter, generated: nobody sees an event that is not theirs, and everybody all that is."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.rights import Caller, visible
from tests.support.sseclient import subscribe
from tests.support.tokens import SECRET, bearer, hs256, make_key
from tests.support.wait import wait_until

STREAMS = ("s.one", "s.two", "gateway:ops")
KINDS = (("a.x", None), ("b.x", "b"), ("a.y", "ns.one"), ("c.z", "ns.two"))
CALLERS = [
    Caller("all"),
    Caller("admin", "admin"),
    Caller("publisher", "publish webhooks"),
    Caller("t1", rights={"tenant": "t1"}),
    Caller("t2", rights={"tenant": "t2"}),
    Caller("nobody's tenant", rights={"tenant": "t3"}),
    Caller("admin of t1", "admin", {"tenant": "t1"}),
    Caller("channel b", rights={"channels": ["b"]}),
    Caller("channels ns.*", rights={"channels": ["ns.*"]}),
    Caller("no channel", rights={"channels": []}),
    Caller("types a.*", rights={"types": ["a.*"]}),
    Caller("one stream", rights={"streams": ["s.one"]}),
    Caller("streams by a wide glob", rights={"streams": ["*"]}),
    Caller("all at once", rights={"tenant": "t1", "channels": ["a", "ns.*"], "types": ["a.*"], "streams": ["s.*"]}),
    Caller("token of t1", rights={"tenant": "t1", "types": ["a.*"]}, carrier="jwt"),
    Caller("query", rights={"tenant": "t2", "channels": ["b"]}, carrier="query"),
    Caller("cookie", rights={"tenant": "t2"}, carrier="cookie"),
    Caller("ticket", rights={"tenant": "t1", "channels": ["ns.*"]}, carrier="ticket"),
]
WAYS = ("page", "sse", "ndjson", "resume", "last", "since")
ASKED_STREAMS = (("s.one",), ("s.two",), ("s.one", "s.two"), ("gateway:ops", "s.one"))
ASKED_FILTERS = [
    {},
    {"channel": ["*"], "type": ["*"]},
    {"channel": ["a"]},
    {"channel": ["b", "*"]},
    {"channel": ["b", "ns.one"]},
    {"channel": ["ns.*"]},
    {"channel": ["n*"]},
    {"type": ["a.*"]},
    {"type": ["a.x", "b.x"]},
    {"channel": ["*.one"], "type": ["*.y"]},
]


SKIPPED: dict[tuple[str, str], dict[str, Any]] = {}
"""Entries that break a rule, by stream and id."""


class House(NamedTuple):
    """A gateway over a log with events of everybody."""

    gateway: GatewayProcess
    redis: RedisServer
    events: list[dict[str, Any]]
    tokens: dict[str, str]


def add_events(redis: RedisServer, first: int) -> list[dict[str, Any]]:
    """One event of each tenant and kind in each stream, numbered in `data`; entries that break a rule in between."""
    events: list[dict[str, Any]] = []
    with redis.client() as client:
        for stream, tenant, (type_, channel) in itertools.product(STREAMS, (None, "t1", "t2"), KINDS):
            number = first + len(events)
            fields = {"type": type_, "data": json.dumps({"n": number})}
            fields |= {"channel": channel} if channel else {}
            fields |= {"tenant": tenant} if tenant else {}
            client.xadd(stream, fields)
            broken = client.xadd(stream, {**fields, "channel": "not a channel"})
            SKIPPED[stream, broken.decode()] = {"stream": stream, "type": type_, "channel": None, "tenant": tenant}
            event = {"n": number, "stream": stream, "type": type_, "channel": channel or type_.split(".")[0]}
            events.append({**event, **({"tenant": tenant} if tenant else {})})
    return events


@pytest.fixture(scope="module")
def house(shared_vault: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    async def tokens() -> dict[str, str]:
        made: dict[str, str] = {}
        for caller in CALLERS:
            if caller.carrier == "jwt":
                made[caller.name] = hs256({"sub": caller.name, "scope": caller.scopes, **caller.rights})
            else:
                _, made[caller.name] = await make_key(shared_vault.url, caller.scopes, **caller.rights)
        return made

    gateway = GatewayProcess(
        shared_vault.url, Path(tmp_path_factory.mktemp("house")) / "log", streams=list(STREAMS), jwt_secret=SECRET
    ).start()
    try:
        yield House(gateway, shared_vault, add_events(shared_vault, 0), asyncio.run(tokens()))
    finally:
        gateway.stop()
    assert "Traceback" not in gateway.log_text()


@pytest.fixture
async def http(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=house.gateway.url, timeout=20) as client:
        yield client


async def credentials(house: House, caller: Caller, http: httpx.AsyncClient) -> tuple[dict[str, str], dict[str, str]]:
    """(headers, query) of one request."""
    token = house.tokens[caller.name]
    if caller.carrier == "query":
        return {}, {"access_token": token}
    if caller.carrier == "cookie":
        return {"Cookie": f"gateway_token={token}"}, {}
    if caller.carrier == "ticket":
        answer = await http.post("/api/tickets", headers=bearer(token))
        return {}, {"ticket": answer.json()["ticket"]}
    return bearer(token), {}


async def numbers(
    house: House, http: httpx.AsyncClient, way: str, query: list[tuple[str, str]], headers: dict[str, str]
) -> tuple[int, list[int], set[str]]:
    """(status, numbers of the events that came, streams and reasons of other things that were told)."""
    if way == "page":
        answer = await http.get("/api/events", params=[*query, ("limit", "1000")], headers=headers | json_accept())
        events = answer.json().get("events", [])
        return answer.status_code, [event["data"]["n"] for event in events], set()
    everything = ",".join(f"{stream}@0-0" for stream in (*STREAMS, "elsewhere"))
    starts = {"last": [("last", "1000")], "since": [("since", "1h")], "resume": []}
    query = [*query, *starts.get(way, [("since", "earliest")])]
    if way == "ndjson":
        found: list[int] = []
        headers = headers | {"Accept": "application/x-ndjson"}
        async with http.stream("GET", "/api/events", params=query, headers=headers) as answer:
            if answer.status_code != 200:
                return answer.status_code, [], set()
            async for line in answer.aiter_lines():
                content = json.loads(line) if line else {}
                if content.get("control") == "gateway.caught-up":
                    return 200, found, set()
                found += [content["data"]["n"]] if "type" in content else []
    async with await subscribe(
        house.gateway.url, query, headers=headers, last_event_id=everything if way == "resume" else ""
    ) as stream:
        if stream.status != 200:
            return stream.status, [], set()
        await stream.told("caught-up")
        told = {message.data for message in stream.controls("skipped")}
        return 200, [json.loads(message.data)["data"]["n"] for message in stream.events], told


def json_accept() -> dict[str, str]:
    return {"Accept": "application/json"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
async def test_history(house: House, http: httpx.AsyncClient, caller: Caller, way: str) -> None:
    cases = list(itertools.product(ASKED_STREAMS, ASKED_FILTERS))
    # Streams cost more than pages: each caller and way gets another fifth of the cases.
    offset = CALLERS.index(caller) + WAYS.index(way)
    for streams, wish in cases if way == "page" else cases[offset % 5 :: 5]:
        headers, query = await credentials(house, caller, http) if caller.has("subscribe") else (
            bearer(house.tokens[caller.name]), {})  # fmt: skip
        asked = [*query.items(), ("stream", ",".join(streams)), *((k, ",".join(v)) for k, v in wish.items())]
        status, got, told = await numbers(house, http, way, asked, headers)
        channels, types = wish.get("channel", []), wish.get("type", [])
        where = f"{caller.name} asks {way} for {streams} {wish}"
        if not caller.may_ask(streams, channels, types):
            assert (status, got) == (403, []), where
            continue
        assert status == 200, where
        assert sorted(got) == visible(caller, house.events, streams, channels, types), where
        for notice in map(json.loads, told):
            entry = SKIPPED[notice["stream"], notice["id"]]
            assert "channels" not in caller.rights, f"{where}: nobody knows whose channel it was"
            assert caller.sees(entry), where


async def test_live(house: House, http: httpx.AsyncClient) -> None:
    """All callers and filters at once, while events of everybody come in."""
    opened = []
    for caller, wish in itertools.product(CALLERS, ASKED_FILTERS):
        channels, types = wish.get("channel", []), wish.get("type", [])
        streams = [stream for stream in STREAMS if caller.reads(stream)]
        if not streams or not caller.may_ask(streams, channels, types):
            continue
        headers, query = await credentials(house, caller, http)
        asked = [*query.items(), ("stream", ",".join(streams)), *((k, ",".join(v)) for k, v in wish.items())]
        stream = await subscribe(house.gateway.url, asked, headers=headers)
        assert stream.status == 200, (caller.name, wish)
        await stream.told("caught-up")
        opened.append((caller, streams, channels, types, stream))
    assert len(opened) > 100
    first = 1000 * int(time.time())
    try:
        batches = [add_events(house.redis, first), add_events(house.redis, first + 500)]
        house.events.extend(event for batch in batches for event in batch)
        for caller, streams, channels, types, stream in opened:
            wanted = [n for batch in batches for n in visible(caller, batch, streams, channels, types)]
            await wait_until(lambda s=stream, w=wanted: len(s.events) >= len(w), f"{caller.name}: {len(wanted)} events")
            got = [json.loads(message.data)["data"]["n"] for message in stream.events]
            assert sorted(got) == wanted, (caller.name, channels, types)
    finally:
        for *_, stream in opened:
            stream.reset()
            await stream.until_closed()


async def test_without_a_credential_there_is_nothing(house: House, http: httpx.AsyncClient) -> None:
    key = house.tokens["all"]
    bad = [{}, bearer("x"), bearer("gwk_" + "x" * 43), bearer(key + "x"), bearer(key[:-1]), {"Authorization": key}]
    for headers in bad:
        for accept in ("text/event-stream", "application/x-ndjson", "application/json", "text/html"):
            for method in ("GET", "HEAD"):
                answer = await http.request(method, "/api/events", headers={**headers, "Accept": accept})
                assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/api/events", "/api/tickets"):
            assert (await http.post(path, headers=headers, json={"type": "a.b", "data": 1})).status_code == 401
        assert (await http.get("/metrics", headers=headers)).status_code == 401
        assert (await http.get("/readyz", headers=headers)).json() == {"status": "ready"}


async def test_credentials_in_the_wrong_place_do_not_count(house: House, http: httpx.AsyncClient) -> None:
    key = house.tokens["admin"]
    for path in ("/api/events", "/api/tickets"):
        body = {"type": "a.b", "data": 1}
        assert (await http.post(path, json=body, headers={"Cookie": f"gateway_token={key}"})).status_code == 401
        assert (await http.post(path, json=body, params={"access_token": key})).status_code == 401
    assert (await http.get("/metrics", headers={"Cookie": f"gateway_token={key}"})).status_code == 401
    assert (await http.get("/metrics", params={"access_token": key})).status_code == 401
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"Cookie": f"gateway_token={key}", "Sec-Fetch-Site": site, **json_accept()}
        assert (await http.get("/api/events", headers=headers)).status_code == status
    for origin, status in (("https://evil.example", 403), ("null", 403), (house.gateway.url, 200)):
        headers = {"Cookie": f"gateway_token={key}", "Origin": origin, **json_accept()}
        assert (await http.get("/api/events", headers=headers)).status_code == status


async def test_admins_see_the_gateways_own_numbers(house: House, http: httpx.AsyncClient) -> None:
    assert (await http.get("/metrics", headers=bearer(house.tokens["all"]))).status_code == 403
    metrics = await http.get("/metrics", headers=bearer(house.tokens["admin"]))
    assert 'gateway_requests_refused_total{reason="forbidden"}' in metrics.text
    for caller in CALLERS:
        assert house.tokens[caller.name] not in metrics.text and "t1" not in metrics.text
    ready = await http.get("/readyz", headers=bearer(house.tokens["admin"]))
    assert set(ready.json()) == {"status", "redis", "streams", "connections"}


PUBLISHED = [
    {"type": "a.x"},
    {"type": "a.x", "tenant": "t1"},
    {"type": "a.x", "tenant": "t2"},
    {"type": "b.x", "channel": "b"},
    {"type": "a.x", "channel": "ns.one", "stream": "s.two"},
    {"type": "a.x", "stream": "gateway:ops"},
    {"type": "a.x", "webhook_url": "https://example.com/x"},
]


@pytest.mark.parametrize(
    "caller",
    [
        Caller("publisher", "publish"),
        Caller("subscriber", "subscribe"),
        Caller("webhooks too", "publish webhooks"),
        Caller("admin", "admin"),
        Caller("t1", "publish", {"tenant": "t1"}),
        Caller("channel a", "publish", {"channels": ["a"]}),
        Caller("types b.*", "publish", {"types": ["b.*"]}),
        Caller("stream", "publish", {"streams": ["s.two"]}),
    ],
    ids=lambda caller: caller.name,
)
async def test_publish(house: House, http: httpx.AsyncClient, caller: Caller) -> None:
    _, key = await make_key(house.redis.url, caller.scopes, **caller.rights)
    for draft, batch in itertools.product(PUBLISHED, (False, True)):
        event = {"stream": "s.one", "channel": draft["type"].split(".")[0], **draft}
        event["tenant"] = event.get("tenant", caller.rights.get("tenant"))
        allowed = (
            caller.has("publish")
            and not event["stream"].startswith("gateway:")
            and caller.sees({key: value for key, value in event.items() if value is not None})
            and (caller.has("webhooks") or "webhook_url" not in event)
        )
        with house.redis.client() as client:
            before = {stream: client.xinfo_stream(stream)["last-generated-id"] for stream in STREAMS}
            good = {"type": "a.x", "data": 0}
            body: Any = [good, {**draft, "data": 1}] if batch else {**draft, "data": 1}
            answer = await http.post("/api/events", json=body, headers=bearer(key))
            if allowed and (not batch or caller.sees({**event, "type": "a.x", "channel": "a", "stream": "s.one"})):
                assert answer.status_code == 201, (draft, answer.text)
                _, fields = client.xrange(event["stream"], answer.json()["ids"][-1])[0]
                assert fields.get(b"tenant", b"").decode() == (event["tenant"] or "")
            else:
                assert answer.status_code == 403, (draft, answer.text)
                assert before == {stream: client.xinfo_stream(stream)["last-generated-id"] for stream in STREAMS}


async def test_idempotency_keys_of_others(house: House, http: httpx.AsyncClient) -> None:
    keys = [(await make_key(house.redis.url, "publish", tenant=tenant))[1] for tenant in ("t1", "t2", "t1")]
    same = {"Idempotency-Key": "order-1"}
    answers = []
    for key in (*keys, *keys):
        answer = await http.post("/api/events", json={"type": "z.z", "data": 1}, headers=bearer(key) | same)
        answers.append(answer.json()["ids"][0])
    assert answers[:3] == answers[3:] and len(set(answers)) == 3
