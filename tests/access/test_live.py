"""Rights that change while streams are open, on every process; tickets that two processes want; what logs hold."""

# The gateway is another process: a call that blocks this loop blocks nobody it waits for.
# ruff: noqa: ASYNC210, ASYNC212

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.support.gateway import LANES, GatewayProcess
from tests.support.inprocess import serve_here
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.tokens import SECRET, Signer, bearer, hs256, make_key, with_store
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]
JSON = {"Accept": "application/json"}
APP = "https://app.example"


@pytest.fixture(scope="module")
def pair(shared_vault: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GatewayProcess]]:
    """Two processes over one Redis, one of each lane."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {
        "jwt_secret": SECRET,
        "log_level": "debug",
        "cors_origins": [APP],
        "max_header_bytes": 8192,
        "max_attempts_per_ip": 0,
    }
    gateways = [GatewayProcess(shared_vault.url, folder / lane, lane, **settings).start() for lane in LANES]
    yield gateways
    for gateway in gateways:
        gateway.stop()
        assert "Traceback" not in gateway.log_text()


async def follow(gateway: GatewayProcess, token: str, **query: str) -> EventStream:
    stream = await subscribe(gateway.url, query, headers=bearer(token))
    assert stream.status == 200, bytes(stream.body)
    await stream.told("caught-up")
    return stream


async def test_a_revoked_key_ends_its_streams_everywhere(shared_vault: RedisServer, pair: list[GatewayProcess]) -> None:
    record, key = await make_key(shared_vault.url)
    _, other = await make_key(shared_vault.url)
    ended = [await follow(gateway, key, stream="t.a") for gateway in pair for _ in range(5)]
    kept = [await follow(gateway, other, stream="t.a") for gateway in pair]
    await with_store(shared_vault.url, lambda store: store.revoke(record.id))
    for stream in ended:
        assert await stream.told("closing") == {"reason": "revoked", "reconnect": False}
        await stream.until_closed()
        assert stream.complete, "never cut inside a block"
    with shared_vault.client() as client:
        client.xadd("t.a", {"type": "a.b", "data": "1"})
    for stream in kept:
        await stream.has(1)
        stream.reset()
        await stream.until_closed()
    for gateway in pair:
        assert httpx.get(f"{gateway.url}/api/events", headers=bearer(key) | JSON).status_code == 401


async def test_a_narrowed_key(shared_vault: RedisServer, pair: list[GatewayProcess]) -> None:
    record, key = await make_key(shared_vault.url, channels=["a", "b"])
    wide = [await follow(gateway, key, stream="t.a") for gateway in pair]
    gone = [await follow(gateway, key, stream="t.a", channel="b") for gateway in pair]
    await with_store(shared_vault.url, lambda store: store.change(record.id, None, {"channels": ["a"]}))
    for stream in gone:
        # It asked for b by name; with its own words it would be refused when it comes back.
        assert await stream.told("closing") == {"reason": "revoked", "reconnect": False}
        await stream.until_closed()
    for gateway, stream in zip(pair, wide, strict=True):
        assert await stream.told("closing") == {"reason": "revoked", "reconnect": True}
        await stream.until_closed()
        with shared_vault.client() as client:
            for channel in "ab":
                client.xadd("t.a", {"type": "x.y", "channel": channel, "data": "1"})
        back = await subscribe(
            gateway.url, {"stream": "t.a"}, headers=bearer(key), last_event_id=stream.position or "0-0"
        )
        await back.told("caught-up")
        assert {'"channel":"a"' in message.data for message in back.events} == {True}
        back.reset()
        await back.until_closed()


@pytest.mark.parametrize("carrier", ["key", "token", "ticket"])
async def test_expiry_ends_streams(shared_vault: RedisServer, pair: list[GatewayProcess], carrier: str) -> None:
    expires = time.time() + 3
    if carrier == "token":
        credential = hs256({"sub": "u", "scope": "subscribe", "exp": expires})
    else:
        _, credential = await make_key(shared_vault.url, expires_at=expires)
    streams = []
    for gateway in pair:
        query = {"stream": "t.a"}
        if carrier == "ticket":
            answer = httpx.post(f"{gateway.url}/api/tickets", headers=bearer(credential))
            streams.append(await subscribe(gateway.url, {**query, "ticket": answer.json()["ticket"]}))
        else:
            streams.append(await follow(gateway, credential, **query))
    for stream in streams:
        assert stream.status == 200
        assert await stream.told("closing") == {"reason": "expired", "reconnect": False}
        assert time.time() >= expires
        await stream.until_closed()
    assert httpx.get(f"{pair[0].url}/api/events", headers=bearer(credential) | JSON).status_code == 401


async def test_an_open_gateway_and_the_first_key(vault: RedisServer, start_gateway: Start) -> None:
    gateway = start_gateway(vault.url, cors_origins=[APP])
    url, event = f"{gateway.url}/api/events", b'{"type":"a.b","data":1,"stream":"t.b"}'
    post = lambda **headers: httpx.post(url, content=event, headers=headers).status_code  # noqa: E731
    assert [post(), post(Origin=gateway.url), post(Origin=APP)] == [201, 201, 201]
    assert [post(Origin="https://evil.example"), post(Origin="null")] == [403, 403], "a web page that posts"
    assert httpx.get(url, headers={"Host": "evil.example", **JSON}).status_code == 403, "DNS rebinding"
    assert httpx.get(url, headers={"Host": "localhost:1", **JSON}).status_code == 200
    assert httpx.get(url, headers=JSON | bearer("anything")).status_code == 200, "credentials are ignored"
    stream = await subscribe(gateway.url, {"stream": "t.a"})
    record, key = await make_key(vault.url, tenant="t1")
    with vault.client() as client:
        client.xadd("t.a", {"type": "a.b", "data": "1"})
        client.xadd("t.a", {"type": "a.b", "data": "2", "tenant": "t1"})
    page = httpx.get(url, params={"stream": "t.a"}, headers=JSON | bearer(key))
    assert [event["data"] for event in page.json()["events"]] == [2], "its rights count from the first request"
    assert await stream.told("closing") == {"reason": "revoked", "reconnect": False}
    await stream.until_closed()
    assert httpx.get(url, headers=JSON).status_code == 401
    await with_store(vault.url, lambda store: store.revoke(record.id))

    def closed_still() -> bool:
        return httpx.get(url, headers=JSON | bearer(key)).status_code == 401

    await wait_until(closed_still)
    assert httpx.get(url, headers=JSON).status_code == 401, "the last key's end does not open it again"


async def test_two_processes_want_one_ticket(shared_vault: RedisServer, pair: list[GatewayProcess]) -> None:
    _, key = await make_key(shared_vault.url)
    async with httpx.AsyncClient(timeout=20) as http:
        for _ in range(40):
            ticket = (await http.post(f"{pair[0].url}/api/tickets", headers=bearer(key))).json()["ticket"]
            asked = (
                http.get(f"{gateway.url}/api/events", params={"ticket": ticket}, headers=JSON)
                for gateway, _ in itertools.product(pair, range(3))
            )
            answers = await asyncio.gather(*asked)
            assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401, 401]


async def test_tickets_that_are_not_good(shared_vault: RedisServer, pair: list[GatewayProcess]) -> None:
    gateway = pair[0]
    record, key = await make_key(shared_vault.url, "subscribe", tenant="t1")
    _, publisher = await make_key(shared_vault.url, "publish")
    url = f"{gateway.url}/api/events"
    ask = lambda ticket: httpx.get(url, params={"ticket": ticket}, headers=JSON).status_code  # noqa: E731
    issue = lambda: httpx.post(f"{gateway.url}/api/tickets", headers=bearer(key))  # noqa: E731
    assert httpx.post(f"{gateway.url}/api/tickets", headers=bearer(publisher)).status_code == 403
    answer = issue()
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    assert answer.json()["expires_in"] == 30
    ticket = answer.json()["ticket"]
    with shared_vault.client() as client:
        (name,) = client.keys("gateway:ticket:*")
        assert ticket.encode() not in name and 25 < client.ttl(name) <= 30
        client.delete(name)  # as its time to live does
    assert ask(ticket) == 401
    for bad in ("", "gwt_", "x" * 47, ticket[:-1], ticket + "x", "*", "gwt_" + "\n" * 43, key):
        assert ask(bad) == 401
    late = issue().json()["ticket"]
    assert httpx.post(url, params={"ticket": late}, json={"type": "a.b", "data": 1}).status_code == 401
    assert httpx.get(f"{gateway.url}/metrics", params={"ticket": late}).status_code == 401
    await with_store(shared_vault.url, lambda store: store.revoke(record.id))
    await wait_until(lambda: issue().status_code == 401)
    assert ask(late) == 401, "a ticket has the rights that its maker has now"


async def test_no_credential_is_ever_logged(shared_vault: RedisServer, pair: list[GatewayProcess]) -> None:
    gateway = pair[0]
    _, key = await make_key(shared_vault.url, "subscribe publish")
    token = hs256({"sub": "u", "scope": "subscribe publish"})
    bad = [hs256({"sub": "x"}, "y" * 40), "gwk_" + "q" * 43, "a.b.c", "MARKEDMARKED", key[:-2], token[:-2] + "xx"]
    texts = [key, token, *bad]
    answers: list[Any] = []
    with httpx.Client(base_url=gateway.url, timeout=20) as http:
        for text in texts:
            answers.append(http.get("/api/events", headers=bearer(text) | JSON))
            answers.append(http.get("/api/events", headers={"Cookie": f"gateway_token={text}"} | JSON))
            answers.append(http.get("/api/events", params={"access_token": text}, headers=JSON))
            answers.append(http.get("/api/events", params={"access_token": text, "nonsense": "1"}, headers=JSON))
            answers.append(http.get("/api/events", params={"ticket": text}, headers=JSON))
            answers.append(http.post("/api/events", headers=bearer(text), content=b"{"))
            answers.append(http.post("/api/tickets", headers=bearer(text)))
            answers.append(http.get(f"/{text}", headers=bearer(text)))
        metrics = http.get("/metrics", headers=bearer((await make_key(shared_vault.url, "admin"))[1])).text
    said = gateway.log_text() + metrics
    for text in (*texts, SECRET):
        assert text not in said and text[-12:] not in said
    for answer in answers:
        if answer.request.url.path.startswith("/api"):
            assert not [text for text in texts if text in answer.text or text in str(answer.headers)]


async def test_limits_answer_with_retry_after(shared_vault: RedisServer, start_gateway: Start) -> None:
    gateway = start_gateway(
        shared_vault.url, max_connections=3, max_connections_per_principal=2, publish_events_per_second=2
    )
    _, key = await make_key(shared_vault.url, "subscribe publish")
    _, other = await make_key(shared_vault.url, "subscribe publish", limits={"connections": 1, "publish_events": 0})
    first, second = await follow(gateway, key, stream="t.a"), await follow(gateway, key, stream="t.a")
    over = httpx.get(f"{gateway.url}/api/events", headers=bearer(key))
    assert over.status_code == 429 and int(over.headers["retry-after"]) >= 1
    third = await follow(gateway, other, stream="t.a")
    assert httpx.get(f"{gateway.url}/api/events", headers=bearer(other)).status_code == 503
    first.reset()
    await first.until_closed()

    async def room() -> bool:
        fourth = await subscribe(gateway.url, {"stream": "t.a"}, headers=bearer(key))
        fourth.reset()
        await fourth.until_closed()
        return fourth.status == 200

    await wait_until(room)
    with httpx.Client(base_url=gateway.url) as http:
        event = {"type": "a.b", "data": 1, "stream": "t.a"}
        assert http.post("/api/events", json=[event] * 5, headers=bearer(key)).status_code == 201
        refused = http.post("/api/events", json=event, headers=bearer(key))
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        for _ in range(10):
            assert http.post("/api/events", json=[event] * 5, headers=bearer(other)).status_code == 201
    for stream in (second, third):
        stream.reset()
        await stream.until_closed()


@pytest.mark.parametrize("at", range(len(LANES)), ids=LANES)
async def test_cors_over_a_stream(shared_vault: RedisServer, pair: list[GatewayProcess], at: int) -> None:
    gateway = pair[at]
    _, key = await make_key(shared_vault.url)
    cookie = {"Cookie": f"gateway_token={key}"}
    async with await subscribe(gateway.url, {"stream": "t.a"}, headers={**cookie, "Origin": APP}) as stream:
        assert stream.status == 200 and stream.headers["access-control-allow-origin"] == APP
        assert stream.headers["access-control-allow-credentials"] == "true"
    evil = httpx.get(f"{gateway.url}/api/events", headers={**cookie, "Origin": "https://evil.example", **JSON})
    assert evil.status_code == 403 and "access-control-allow-origin" not in evil.headers
    refused = httpx.get(f"{gateway.url}/api/events", headers={"Origin": APP, **JSON})
    assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == APP
    preflight = {
        "Origin": APP,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id",
    }
    assert httpx.options(f"{gateway.url}/api/events", headers=preflight).status_code == 204


def test_heads_without_end(pair: list[GatewayProcess]) -> None:
    gateway = pair[0]
    ask = lambda size: httpx.get(f"{gateway.url}/healthz", headers={"X": "x" * size}).status_code  # noqa: E731
    assert [ask(7000), ask(9000), ask(200_000)] == [200, 431, 431]
    assert httpx.get(f"{gateway.url}/healthz", params={"x": "y" * 20_000}).status_code == 431


async def test_a_rotation_ends_the_streams_of_the_key_that_went(
    vault: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.jwks.REFRESH", 0.2)
    monkeypatch.setattr("gateway.access.jwks.COOLDOWN", 0.1)
    old, new = Signer("ES256", "one"), Signer("ES256", "one")  # a name that is given again
    held = [old, new]

    async def keys(request: web.Request) -> web.Response:
        return web.json_response({"keys": [signer.jwk for signer in held]})

    app = web.Application()
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    claims = {"scope": "subscribe", "exp": time.time() + 3600}
    try:
        async with serve_here(vault.url, jwt_jwks_url=url) as here, httpx.AsyncClient(base_url=here.url) as http:
            tokens = [signer.sign({**claims, "sub": "u"}) for signer in (old, new)]
            tickets = [(await http.post("/api/tickets", headers=bearer(token))).json()["ticket"] for token in tokens]
            streams = [await subscribe(here.url, {"stream": "t.a"}, headers=bearer(token)) for token in tokens]
            streams += [await subscribe(here.url, {"stream": "t.a", "ticket": ticket}) for ticket in tickets]
            for stream in streams:
                await stream.told("caught-up")
            late = (await http.post("/api/tickets", headers=bearer(tokens[0]))).json()["ticket"]
            held.remove(old)
            for stream in (streams[0], streams[2]):
                assert await stream.told("closing") == {"reason": "revoked", "reconnect": False}
                await stream.until_closed()
            assert (await http.get("/api/events", headers=bearer(tokens[0]) | JSON)).status_code == 401
            assert (await http.get("/api/events", params={"ticket": late}, headers=JSON)).status_code == 401
            with vault.client() as client:
                client.xadd("t.a", {"type": "a.b", "data": "1"})
            for stream in (streams[1], streams[3]):
                await stream.has(1)
                assert not stream.controls("closing")
                stream.reset()
                await stream.until_closed()
    finally:
        await runner.cleanup()
