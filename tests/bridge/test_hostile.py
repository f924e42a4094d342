"""Receivers that hang, drip, flood and lie: each attempt ends at its deadline, with a class, at a bounded cost."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.bridge.attempt import BODY_KEPT
from gateway.bridge.egress import EgressGuard
from gateway.bridge.sender import Sender
from tests.bridge.receiver import OK, Received, Receiver, status
from tests.bridge.rig import LOCAL, Rig
from tests.support.wait import wait_until

TIMEOUT = 0.5


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    it = Sender(EgressGuard(LOCAL), allow_http=True)
    yield it
    await it.close()


async def hang(received: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def drip_head(received: Received, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def drip_body(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while True:
        writer.write(b"z")
        await asyncio.sleep(0.02)


async def endless_head(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.transport.is_closing():
        writer.write(b"X-Filler: " + b"y" * 4000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def endless_body(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b"10000\r\n" + b"z" * 65536 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def garbage(received: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (hang, "timeout"),
        (drip_head, "timeout"),
        (reset, "disconnected"),
        (endless_head, "protocol"),
        (garbage, "protocol"),
    ],
)
async def test_no_answer_has_a_class(sender: Sender, receiver: Receiver, behaviour: object, error: str) -> None:
    receiver.answer = lambda received: behaviour  # type: ignore[return-value]
    attempt = await sender.post(receiver.url, {}, b"{}", TIMEOUT)
    assert (attempt.status, attempt.error) == (None, error), attempt


@pytest.mark.parametrize("behaviour", [drip_body, endless_body])
async def test_a_status_is_a_verdict_and_the_body_is_cut(sender: Sender, receiver: Receiver, behaviour: object) -> None:
    receiver.answer = lambda received: behaviour  # type: ignore[return-value]
    attempt = await sender.post(receiver.url, {}, b"{}", TIMEOUT)
    assert (attempt.status, attempt.error, attempt.truncated) == (200, None, True)
    assert len(attempt.body) <= BODY_KEPT
    # The connection is not used again: the rest of that body would be taken for the next answer.
    receiver.answer = lambda received: OK
    assert (await sender.post(receiver.url, {}, b"{}", 5)).status == 204
    assert receiver.connections == 2


async def test_a_bomb_stays_packed(sender: Sender, receiver: Receiver) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    receiver.answer = lambda received: status(200, "Content-Encoding: gzip\r\n", bomb)
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert attempt.status == 200
    assert attempt.body == bomb[:BODY_KEPT]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_redirects_are_not_followed(sender: Sender, receiver: Receiver, code: int) -> None:
    receiver.answer = lambda received: status(code, f"Location: {receiver.url}/private\r\n")
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert attempt.status == code
    assert [received.path for received in receiver.requests] == ["/hook"]


async def test_cookies_are_not_kept(sender: Sender, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(200, "Set-Cookie: a=b\r\n")
    for _ in range(2):
        await sender.post(receiver.url, {}, b"{}", 5)
    assert not any("cookie" in received.headers for received in receiver.requests)
    assert receiver.connections == 1


async def test_tls_that_stalls_and_tls_that_is_none(sender: Sender, receiver: Receiver) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        attempt = await sender.post(f"https://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}", TIMEOUT)
    assert attempt.error == "timeout"
    assert attempt.phases.connect is not None
    assert attempt.phases.tls is None
    attempt = await sender.post(receiver.url.replace("http:", "https:"), {}, b"{}", 5)
    assert attempt.error in ("tls", "timeout")


async def test_names_and_ports_where_nobody_is(sender: Sender) -> None:
    assert (await sender.post("http://nobody.invalid/", {}, b"{}", 5)).error == "dns"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        assert (await sender.post(url, {}, b"{}", 5)).error == "connect"


async def test_blocked(receiver: Receiver) -> None:
    strict = Sender(EgressGuard(), allow_http=True)
    attempt = await strict.post(receiver.url, {}, b"{}", 5)
    assert (attempt.error, attempt.status) == ("blocked", None)
    await strict.close()
    https_only = Sender(EgressGuard(LOCAL))
    assert (await https_only.post(receiver.url, {}, b"{}", 5)).error == "blocked"
    await https_only.close()
    assert receiver.connections == 0


async def test_failover_and_own_urls_are_guarded_too(redis_url: str, receiver: Receiver) -> None:
    private = await Receiver().start()
    refused = f"http://127.0.0.2:{private.url.split(':')[2]}"
    receiver.answer = lambda received: status(500)
    async with Rig(redis_url, allow_cidrs=("127.0.0.1/32",)) as rig:
        endpoint = await rig.endpoint(receiver.url, failover_url=refused, retry=[0])
        mine = await rig.endpoint(receiver.url, overridable=True, retry=[0])
        await rig.publish(webhook_url=refused)

        async def blocked() -> bool:
            found = [(await rig.bridge.ledger.logs(it.id, 9, None, None))[0] for it in (endpoint, mine)]
            return all(it and it[0].status == "failed" and it[0].error == "blocked" for it in found)

        await wait_until(blocked, "both are logged as blocked")
    assert private.connections == 0
    await private.stop()


async def test_one_that_hangs_does_not_delay_the_others(rig: Rig, receiver: Receiver) -> None:
    hanging = await Receiver(answer=lambda received: hang).start()
    await rig.endpoint(hanging.url, max_in_flight=2, timeout=60)
    await rig.endpoint(receiver.url)
    ids = await rig.publish(500)
    await wait_until(lambda: len(receiver.requests) == 500, "the healthy one has all")
    assert sorted(receiver.ids) == sorted(ids)
    assert len(hanging.requests) == 2
    await hanging.stop()
