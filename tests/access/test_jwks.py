"""A key set at a URL: fetched once, kept, rotated, lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.access.jwks import COOLDOWN, MAX_STALE, REFRESH, KeySet, fetch
from gateway.access.jwt import BadToken, JwtVerifier
from gateway.access.principal import Principal
from gateway.access.verifykey import secret_key
from tests.support.tokens import SECRET, Signer, hs256
from tests.support.wait import wait_until

NOW = 1_700_000_000.0
CLAIMS = {"sub": "u1", "scope": "subscribe", "exp": NOW + 60}
OLD, NEW = Signer("RS256", "old"), Signer("ES256", "new")


def document(*signers: Signer, extra: tuple[Any, ...] = ()) -> bytes:
    return json.dumps({"keys": [*(signer.jwk for signer in signers), *extra]}).encode()


class Source:
    """Answers as told, and counts."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body
        self.asked = 0
        self.clock = 1000.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.set = KeySet("https://id.example/keys", self.get, lambda: self.clock)
        self.verifier = JwtVerifier(
            (), self.set, issuer=None, audience=None, leeway=0.0, now=lambda: NOW + self.clock - 1000
        )

    async def get(self, url: str) -> bytes:
        self.asked += 1
        await self.gate.wait()
        if self.body is None:
            raise OSError("down")
        return self.body

    async def accepts(self, token: str) -> bool:
        try:
            await self.verifier.verify(token)
        except BadToken:
            return False
        return True


async def test_fetched_once_for_all() -> None:
    source = Source(document(OLD, NEW))
    source.gate.clear()
    waiting = [asyncio.create_task(source.accepts(OLD.sign({**CLAIMS, "n": n}))) for n in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # one client that goes away must not take the others with it
    source.gate.set()
    assert all(await asyncio.gather(*waiting[1:]))
    assert await source.accepts(NEW.sign(CLAIMS))
    assert source.asked == 1


async def test_rotation() -> None:
    source = Source(document(OLD))
    token = OLD.sign({**CLAIMS, "exp": NOW + 1e6})
    assert await source.accepts(token)
    assert not await source.accepts(NEW.sign(CLAIMS))
    source.body = document(NEW)
    source.clock += COOLDOWN
    assert await source.accepts(NEW.sign(CLAIMS)), "a new key is asked for at once"
    assert not await source.accepts(token), "the old one is gone, also for tokens that were seen before"


async def test_a_removed_key_is_noticed_without_a_new_one() -> None:
    source = Source(document(OLD))
    token = OLD.sign({**CLAIMS, "exp": NOW + 1e6})
    assert await source.accepts(token)
    source.body = document()
    source.clock += REFRESH
    assert await source.accepts(token), "asked in the background"
    await wait_until(lambda: source.asked == 2)

    async def refused() -> bool:
        return not await source.accepts(token)

    await wait_until(refused)


async def test_a_token_refused_before_the_rotation_is_good_after_it() -> None:
    renewed = Signer("RS256", "old")  # another key under the same name
    source = Source(document(OLD))
    token = renewed.sign({**CLAIMS, "exp": NOW + 1e6})
    assert not await source.accepts(token)
    assert not await source.accepts(token)
    source.body = document(renewed)
    source.clock += REFRESH
    await wait_until(lambda: source.accepts(token))


async def test_what_counts_of_those_who_came_with_a_key() -> None:
    source = Source(document(OLD, NEW))
    heard = []
    source.set.listeners.append(lambda: heard.append(source.set.generation))

    async def whom(signer: Signer) -> Principal:
        return await source.verifier.verify(signer.sign({**CLAIMS, "exp": NOW + 1e6}))

    old, new = await whom(OLD), await whom(NEW)
    other = JwtVerifier((secret_key(SECRET),), source.set, issuer=None, audience=None, leeway=0, now=lambda: NOW)
    fixed = await other.verify(hs256(CLAIMS))
    assert heard == [1] and source.verifier.honours(old)

    async def ask_again(body: bytes | None, seconds: float) -> list[bool]:
        source.body = body
        source.clock += seconds
        source.verifier.touch()
        await source.set.ask()
        return [source.verifier.honours(principal) for principal in (old, new, fixed)]

    assert await ask_again(None, MAX_STALE) == [True, True, True], "silence ends nothing"
    assert heard == [1, 2] and not await source.accepts(OLD.sign(CLAIMS)), "but begins nothing either"
    assert await ask_again(document(NEW), COOLDOWN) == [False, True, True]
    assert await ask_again(None, REFRESH) == [False, True, True]
    assert await ask_again(document(NEW, OLD), COOLDOWN) == [True, True, True], "it came back"


async def test_unknown_names_do_not_become_a_flood() -> None:
    source = Source(document(OLD))
    for n in range(200):
        assert not await source.accepts(named(OLD, f"kid{n}"))
    assert source.asked == 1
    source.clock += COOLDOWN
    for n in range(200):
        assert not await source.accepts(named(OLD, f"kid{n}"))
    assert source.asked == 2
    assert not await source.accepts(hs256(CLAIMS))


def named(signer: Signer, kid: str) -> str:
    return signer.sign(CLAIMS, kid=kid)


async def test_few_wait_for_a_source_that_hangs() -> None:
    source = Source(document(OLD))
    source.gate.clear()
    waiting = [asyncio.create_task(source.accepts(OLD.sign({**CLAIMS, "n": n}))) for n in range(300)]
    await wait_until(lambda: sum(task.done() for task in waiting) == 200, "200 are turned away at once")
    source.gate.set()
    assert sum(await asyncio.gather(*waiting)) == 100


async def test_down_from_the_start_and_back() -> None:
    source = Source(None)
    token = OLD.sign(CLAIMS)
    assert not await source.accepts(token)
    assert not await source.accepts(token)
    assert source.asked == 1, "a failure is remembered for a while"
    source.body = document(OLD)
    source.clock += COOLDOWN
    assert await source.accepts(token), "but nothing about the token"


async def test_down_later() -> None:
    source = Source(document(OLD))
    token = OLD.sign({**CLAIMS, "exp": NOW + 1e6})
    assert await source.accepts(token)
    source.body = None
    for _ in range(3):
        source.clock += REFRESH
        assert await source.accepts(token), "the keys of before count"
        await source.set.stop()
    source.clock += MAX_STALE
    assert not await source.accepts(token), "but not for ever"
    await source.set.stop()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"keys":1}', b'{"keys":[1,null,"x",{}]}', b"\xff", b'{"keys":{"a":1}}', b"<html>"],
)
async def test_documents_that_are_none(body: bytes) -> None:
    source = Source(body)
    assert not await source.accepts(OLD.sign(CLAIMS))
    source.body = document(OLD)
    source.clock += COOLDOWN
    assert await source.accepts(OLD.sign(CLAIMS))


@pytest.mark.parametrize(
    "change",
    [{"use": "enc"}, {"alg": "RS512"}, {"alg": "HS256"}, {"kty": "oct"}, {"kty": "EC"}, {"kid": ["old"]}, {"d": "AQ"},
     {"n": "AQAB"}, {"n": 1}, {"e": None}],
)  # fmt: skip
async def test_keys_for_other_purposes_are_passed_over(change: dict[str, Any]) -> None:
    source = Source(document(NEW, extra=({**OLD.jwk, **change},)))
    assert not await source.accepts(OLD.sign(CLAIMS))
    assert await source.accepts(NEW.sign(CLAIMS))


async def test_a_symmetric_key_in_the_set_is_none() -> None:
    secret = {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "s", "alg": "HS256"}
    source = Source(document(OLD, extra=(secret,)))
    assert not await source.accepts(hs256(CLAIMS, "0123456789abcdef0123456789abcdef", kid="s"))


async def test_no_kid_tries_the_keys_of_that_kind() -> None:
    bare, other = Signer("RS256"), Signer("RS256", "x")
    source = Source(document(other, bare, NEW))
    assert await source.accepts(bare.sign(CLAIMS))
    assert not await source.accepts(Signer("RS256").sign(CLAIMS))


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def keys(request: web.Request) -> web.Response:
        return web.Response(body=document(OLD))

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/keys")

    async def huge(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(64):
            await response.write(b" " * 65_536)
        return response

    app = web.Application()
    app.add_routes([web.get("/keys", keys), web.get("/moved", moved), web.get("/huge", huge)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_fetching(site: str) -> None:
    assert await fetch(f"{site}/keys") == document(OLD)
    for path, words in (("/moved", "302"), ("/huge", "more than"), ("/none", "404")):
        with pytest.raises(OSError, match=words):
            await fetch(site + path)
    with pytest.raises(OSError):
        await fetch("http://127.0.0.1:1/keys")
