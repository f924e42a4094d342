"""Many bad requests: turned away before they cost much, with the same answers; the good ones notice nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.sseclient import subscribe
from tests.support.tokens import SECRET, bearer, hs256, make_key
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]
APP = "https://app.example"
GET = "GET /api/events?stream=t.a HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n"
_numbers = itertools.count()


def unknown() -> str:
    """A key that looks like one."""
    return "gwk_" + str(next(_numbers)).rjust(43, "x")


def get(token: str, *more: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in more)
    return f"{GET}Authorization: Bearer {token}\r\n{lines}\r\n".encode()


class Answer:
    """Status, headers (names in lower case) and body of raw bytes."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}

    @property
    def by_lobby(self) -> bool:
        return self.headers.get("connection") == "close"


async def ask(gateway: GatewayProcess, *parts: bytes, answers: int = 1) -> Answer:
    """Send `parts`, each by itself; what comes back by the end of the connection, or of so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        raw = b""
        async with asyncio.timeout(20):
            while more := await reader.read(65536):
                raw += more
                length = re.search(rb"content-length: ([0-9]+)", raw)
                end = raw.find(b"\r\n\r\n")
                if length is not None and len(raw) >= end + 4 + int(length[1]):
                    break
        return Answer(raw)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def flood(gateway: GatewayProcess, token: Callable[[], str] = lambda: "nonsense") -> AsyncIterator[list[Answer]]:
    """Somebody tries, until the end of the block; the answers so far."""
    answers: list[Answer] = []

    async def go_on() -> None:
        while True:
            answers.append(await ask(gateway, get(token())))

    trying = [asyncio.create_task(go_on()) for _ in range(8)]
    try:
        await wait_until(lambda: answers and answers[-1].by_lobby, "the lobby is open")
        yield answers
    finally:
        for task in trying:
            task.cancel()
        assert not [error for error in await asyncio.gather(*trying, return_exceptions=True) if type(error) is OSError]


@pytest.fixture
async def closed(vault: RedisServer, start_gateway: Start) -> tuple[GatewayProcess, str]:
    """A gateway with keys and tokens, and a good key."""
    gateway = start_gateway(vault.url, jwt_secret=SECRET, cors_origins=[APP], max_header_bytes=8192, request_timeout=3)
    return gateway, (await make_key(vault.url, "subscribe publish admin"))[1]


async def test_unknown_keys_are_looked_up_a_few_times_a_second(closed: tuple[GatewayProcess, str]) -> None:
    gateway, key = closed
    async with flood(gateway, unknown) as answers:
        await wait_until(lambda: sum(answer.status == 429 for answer in answers) > 200)
        assert {answer.status for answer in answers} == {401, 429}
        over = [answer for answer in answers if answer.status == 429][-1]
        assert over.headers["retry-after"] == "1" and over.by_lobby
        assert json.loads(over.body)["status"] == 429
        # From the same address: what memory knows passes at any rate, and what it can tell is told.
        for good in (key, hs256({"sub": "u", "scope": "subscribe"})):
            async with await subscribe(gateway.url, {"stream": "t.a"}, headers=bearer(good)) as stream:
                assert stream.status == 200
                await stream.told("caught-up")
        expired = hs256({"sub": "u", "scope": "subscribe", "exp": 1})
        for bad in ("gwk_short", "nonsense", expired, hs256({"sub": "u"}, "another secret, long enough to be one")):
            assert (await ask(gateway, get(bad))).status == 401
        assert (await ask(gateway, get("gwt_" + "x" * 43))).status == 401, "a ticket comes in the URL only"
        probe = get(unknown()).replace(b"/api/events?stream=t.a", b"/readyz")
        assert (await ask(gateway, probe)).status == 200, "an open path stays open"
        ticket = GET.replace("?", "?ticket=gwt_" + "x" * 43 + "&") + "\r\n"
        assert (await ask(gateway, ticket.encode())).status in (401, 429)
    metrics = (await ask(gateway, get(key).replace(b"/api/events?stream=t.a", b"/metrics"))).body.decode()
    counted = {reason: float(n) for reason, n in re.findall(r'refused_total\{reason="(\w+)"\} (\S+)', metrics)}
    assert counted["attempts"] >= sum(answer.status == 429 for answer in answers)
    assert counted["unauthenticated"] >= sum(answer.status == 401 for answer in answers)


async def test_a_key_made_during_a_flood_is_good_soon(closed: tuple[GatewayProcess, str], vault: RedisServer) -> None:
    gateway, _ = closed
    async with flood(gateway, unknown) as answers:
        await wait_until(lambda: answers[-1].status == 429)
        _, fresh = await make_key(vault.url)
        seen = []

        async def good() -> bool:
            seen.append((await ask(gateway, get(fresh))).status)
            return seen[-1] == 200

        await wait_until(good)
        assert set(seen) <= {200, 429}, "it is never called bad"


REQUESTS = {
    "no credential": f"{GET}\r\n".encode(),
    "a bad key": get("gwk_short"),
    "a bad token": get("a.b.c"),
    "a forged one": get(hs256({"sub": "u"}, "another secret, long enough to be one")),
    "two headers": get("x", "Authorization: Bearer y"),
    "Basic": f"{GET}Authorization: Basic eDp5\r\n\r\n".encode(),
    "a named origin": get("x", f"Origin: {APP}"),
    "another origin": get("x", "Origin: https://evil.example"),
    "a cookie": f"{GET}Cookie: gateway_token=x\r\n\r\n".encode(),
    "a cookie of another's page": f"{GET}Cookie: gateway_token=x\r\nOrigin: https://evil.example\r\n\r\n".encode(),
    "in the query": GET.replace("?", "?access_token=x&").encode() + b"\r\n",
    "HEAD": get("x").replace(b"GET", b"HEAD"),
    "a body": get("x", "Content-Length: 3").replace(b"GET", b"POST") + b"abc",
    "a preflight": f"OPTIONS /api/events HTTP/1.1\r\nHost: x\r\nOrigin: {APP}\r\n"
    "Access-Control-Request-Method: GET\r\n\r\n".encode(),
    "health": get("x").replace(b"/api/events?stream=t.a", b"/healthz"),
    "nothing there": get("x").replace(b"/api/events?stream=t.a", b"/nothing"),
    "tickets": get("x").replace(b"GET /api/events?stream=t.a", b"POST /api/tickets"),
    "endpoints": get("x").replace(b"/api/events?stream=t.a", b"/api/webhooks"),
    "HTTP/1.0": get("x").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no HTTP": b"\x16\x03\x01\x00\xa5\r\n\r\n",
    "a folded line": get("x", " Folded: y"),
    "lone line feeds": get("x").replace(b"\r", b""),
    "too long a head": get("x", "X: " + "y" * 9000),
    "too long a path": get("x").replace(b"stream=t.a", b"stream=" + b"a" * 9000),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["whole", "in pieces"])
async def test_the_answers_are_those_of_quiet_times(closed: tuple[GatewayProcess, str], at_once: bool) -> None:
    gateway, key = closed
    requests = {**REQUESTS, "a good key": get(key), "a wrong question": get(key).replace(b"stream", b"nonsense")}

    async def all_answers() -> dict[str, Answer]:
        cuts = {name: raw if at_once else raw[:-1] for name, raw in requests.items()}
        return {
            name: await ask(gateway, cut, *([] if at_once else [requests[name][-1:]])) for name, cut in cuts.items()
        }

    # A few at a time, or their own number would open the lobby.
    before = await all_answers()
    async with flood(gateway):
        during = await all_answers()
    for name in requests:
        then, now = before[name], during[name]
        assert then.status == now.status, name
        assert then.body == now.body, name
        ignored = ("date", "connection", "content-length" if name == "HEAD" else "")
        parts = [{key: value for key, value in answer.headers.items() if key not in ignored} for answer in (then, now)]
        assert parts[0] == parts[1], name
    assert during["a bad key"].by_lobby and during["a named origin"].headers["access-control-allow-origin"] == APP
    assert during["a good key"].status == 200 and not during["a good key"].by_lobby
    assert "access-control-allow-origin" not in during["another origin"].headers


async def test_a_large_body_does_not_swallow_the_answer(closed: tuple[GatewayProcess, str]) -> None:
    gateway, _ = closed
    head = get("x", "Content-Length: 900000").replace(b"GET", b"POST")
    async with flood(gateway):
        for _ in range(5):
            assert (await ask(gateway, head, *[b"z" * 100_000] * 9)).status == 401


async def test_who_says_nothing_is_sent_away(closed: tuple[GatewayProcess, str]) -> None:
    gateway, _ = closed
    async with flood(gateway):
        assert (await ask(gateway)).status in (0, 408)
        assert (await ask(gateway, get("x")[:-1])).status in (0, 408)


async def test_the_end_of_the_server_does_not_wait_for_the_lobby(closed: tuple[GatewayProcess, str]) -> None:
    gateway, _ = closed
    async with flood(gateway):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /")
        await writer.drain()
        await asyncio.sleep(0)
    assert await asyncio.to_thread(gateway.stop) == 0
    assert await reader.read() == b""
    writer.close()
