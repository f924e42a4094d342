"""The HTTP client by itself: answers as they may come, connections as they may end. On both event loops."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.bridge.attempt import BODY_KEPT, Attempt
from gateway.bridge.egress import EgressGuard
from gateway.bridge.http.resolver import Address, NameUnknown, Resolver
from gateway.bridge.http.target import InvalidTarget, read_target
from gateway.bridge.sender import Sender, head_of
from tests.bridge.receiver import OK, Receiver, status
from tests.bridge.rig import LOCAL
from tests.support.wait import wait_until


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    it = Sender(EgressGuard((*LOCAL, "::1/128")), allow_http=True)
    yield it
    await it.close()
    with warnings.catch_warnings(record=True) as left:
        gc.collect()
    assert [str(it.message) for it in left] == []


async def post(sender: Sender, receiver: Receiver, answer: bytes, **more: Any) -> Attempt:
    """One attempt that gets these bytes, and no more while it lasts."""
    receiver.answer = lambda received: answer
    return await sender.post(receiver.url, {}, **{"body": b"{}", "timeout": 5, **more})


def closing(answer: bytes) -> Any:
    """Answers and closes."""

    async def behave(received: object, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    return lambda received: behave


@asynccontextmanager
async def serving(handle: Any, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[int]:
    """A server whose connections all end with it; its port."""
    writers: list[asyncio.StreamWriter] = []
    handling: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        handling.add(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(connected, host, 0, **options)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for task in handling:
        task.cancel()
    await asyncio.gather(*handling, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


# Answers.


@pytest.mark.parametrize(
    ("answer", "code", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", 200, b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX-Early: 1\r\n\r\n" + OK, 204, b""),
    ],
)
async def test_answers(sender: Sender, receiver: Receiver, answer: bytes, code: int, body: bytes) -> None:
    for _ in range(2):
        attempt = await post(sender, receiver, answer)
        assert (attempt.status, attempt.body, attempt.truncated, attempt.error) == (code, body, False, None)
        assert "x-early" not in attempt.response_headers
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray",
        OK + b"H",
        OK + b"\x00\x00",
    ],
)
async def test_answers_after_which_the_connection_is_not_used_again(
    sender: Sender, receiver: Receiver, answer: bytes
) -> None:
    attempt = await post(sender, receiver, answer)
    assert (attempt.status, attempt.error) == (int(answer[9:12]), None)
    again = await post(sender, receiver, status(202))
    assert (again.status, again.body) == (202, b"")
    assert receiver.connections == 2


async def test_stray_bytes_between_two_answers_are_nobodys(sender: Sender, receiver: Receiver) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def behave(received: object, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK)

    receiver.answer = lambda received: behave
    assert (await sender.post(receiver.url, {}, b"{}", 5)).status == 204
    (idle,) = (it for lying in sender._pool._idle.values() for it in lying)
    writers[0].write(b"HTTP/1.1 500 Stray\r\nContent-Length: 0\r\n\r\n")
    # Less than the 4.5 s after which it would be dropped anyway.
    await wait_until(lambda: not idle.open, "it is dropped", patience=4)
    assert (await sender.post(receiver.url, {}, b"{}", 5)).status == 204
    assert receiver.connections == 2


@pytest.mark.parametrize(
    ("answer", "body", "truncated"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", b"cut", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncut\r\n", b"cut", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncut\r\nnonsense\r\n", b"cut", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n" + b"z" * 16384, b"z" * 16384, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 16385\r\n\r\n" + b"z" * 16385, b"z" * BODY_KEPT, True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"z" * 100_000, b"z" * BODY_KEPT, True),
    ],
)
async def test_bodies_that_end_with_the_connection(
    sender: Sender, receiver: Receiver, answer: bytes, body: bytes, truncated: bool
) -> None:
    receiver.answer = closing(answer)
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert (attempt.status, attempt.error, attempt.body, attempt.truncated) == (200, None, body, truncated)


async def test_every_split_of_an_answer_is_the_same_answer(sender: Sender, receiver: Receiver) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"

    async def slowly(received: object, writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    receiver.answer = lambda received: slowly
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert (attempt.status, attempt.body, attempt.truncated) == (200, b"hi", False)
    assert attempt.response_headers == {"x-a": "b", "transfer-encoding": "chunked"}


@pytest.mark.parametrize("answer", [b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX-Half: ", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_half_a_head_is_no_verdict(sender: Sender, receiver: Receiver, answer: bytes) -> None:
    receiver.answer = closing(answer)
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert (attempt.status, attempt.error) == (None, "disconnected")
    assert attempt.phases.first_byte is not None


async def test_endless_interim_answers_are_cut(sender: Sender, receiver: Receiver) -> None:
    async def endless(received: object, writer: asyncio.StreamWriter) -> None:
        while not writer.transport.is_closing():
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0)

    receiver.answer = lambda received: endless
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert (attempt.status, attempt.error) == (None, "protocol")


async def test_headers_are_kept_within_bounds(sender: Sender, receiver: Receiver) -> None:
    many = "".join(f"X-{number}: {'v' * 200}\r\n" for number in range(100))
    attempt = await post(sender, receiver, status(200, f"X-Long: {'w' * 2000}\r\nX-Odd: \xe9\r\n{many}"))
    assert attempt.status == 200
    assert len(attempt.response_headers) == 64
    assert attempt.response_headers["x-long"] == "w" * 1024
    assert attempt.response_headers["x-odd"].isprintable()
    assert "x-99" not in attempt.response_headers


# Connections.


async def test_a_connection_is_used_again_and_needs_no_phases(sender: Sender, receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    first, second = [await sender.post(url, {}, b"{}", 5) for _ in range(2)]
    assert first.phases.dns is not None
    assert first.phases.dns <= (first.phases.connect or 0) <= (first.phases.first_byte or 0) <= first.phases.total
    assert (second.phases.dns, second.phases.connect, second.phases.tls) == (None, None, None)
    assert second.phases.first_byte is not None
    assert receiver.connections == 1


async def test_an_old_connection_is_not_used(sender: Sender, receiver: Receiver) -> None:
    await sender.post(receiver.url, {}, b"{}", 5)
    (idle,) = (it for lying in sender._pool._idle.values() for it in lying)
    idle.idle_since -= 4.6
    assert (await sender.post(receiver.url, {}, b"{}", 5)).status == 204
    assert receiver.connections == 2


async def test_old_connections_are_swept(sender: Sender, receiver: Receiver) -> None:
    answers = [sender.post(receiver.url, {}, b"{}", 5) for _ in range(3)]
    assert [it.status for it in await asyncio.gather(*answers)] == [204] * 3
    lying = next(iter(sender._pool._idle.values()))
    for connection in lying[:2]:
        connection.idle_since -= 4.6
    sender._pool._sweep()
    assert [it.open for it in lying] == [False, False, True]
    assert sum(map(len, sender._pool._idle.values())) == 1


async def test_a_connection_that_died_while_idle_costs_nothing(sender: Sender, receiver: Receiver) -> None:
    """The receiver closes it when the next request arrives: then it cannot have been noticed before."""

    async def hang_up(received: object, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    assert (await sender.post(receiver.url, {}, b"{}", 5)).status == 204
    receiver.answer = lambda received: hang_up if len(receiver.requests) == 2 else OK
    attempt = await sender.post(receiver.url, {"webhook-id": "a"}, b"{}", 5)
    assert (attempt.status, attempt.error) == (204, None)
    assert [it.headers.get("webhook-id") for it in receiver.requests] == [None, "a", "a"]
    assert receiver.connections == 2


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2"])
async def test_once_and_only_when_nothing_was_said(sender: Sender, receiver: Receiver, said: bytes) -> None:
    await sender.post(receiver.url, {}, b"{}", 5)
    receiver.answer = closing(said)
    attempt = await sender.post(receiver.url, {}, b"{}", 5)
    assert (attempt.status, attempt.error) == (None, "disconnected")
    assert len(receiver.requests) == (2 if said else 3)
    # On a connection of its own there is no doubt, and no second time.
    await sender.post(receiver.url, {}, b"{}", 5)
    assert len(receiver.requests) == (3 if said else 4)


async def test_an_answer_before_the_request_is_out(sender: Sender) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(status(413))
        await asyncio.Event().wait()

    connections = 0
    async with serving(refuse, limit=4096) as port:
        for _ in range(2):
            attempt = await sender.post(f"http://127.0.0.1:{port}/", {}, b"x" * 50_000_000, 10)
            assert (attempt.status, attempt.error) == (413, None)
    assert connections == 2


async def test_a_large_body_arrives_whole(sender: Sender, receiver: Receiver) -> None:
    body = bytes(range(256)) * 4096
    assert (await sender.post(receiver.url, {}, body, 10)).status == 204
    assert receiver.requests[0].body == body


async def test_many_at_once_come_back_to_whom_they_belong(sender: Sender, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(200, "", received.body)

    async def one(number: int) -> bool:
        body = b"%d" % number
        return all([(await sender.post(receiver.url, {}, body, 10)).body == body for _ in range(10)])

    assert all(await asyncio.gather(*map(one, range(50))))
    assert receiver.connections <= 50


# Deadlines and ends.


async def test_the_deadline_counts_while_a_name_is_looked_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def slow(host: str, *rest: object) -> Any:
        asked.append(host)
        over.wait(40)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    over, port = threading.Event(), int(receiver.url.split(":")[2].split("/")[0])
    monkeypatch.setattr("gateway.bridge.http.resolver.socket.getaddrinfo", slow)
    sender = Sender(EgressGuard(LOCAL), allow_http=True)
    url = f"http://slow.example:{port}/"
    patient = asyncio.create_task(sender.post(url, {}, b"{}", 30))
    hasty = await sender.post(url, {}, b"{}", 0.1)
    assert (hasty.error, hasty.phases.dns) == ("timeout", None)
    assert hasty.phases.total >= 0.1
    over.set()
    assert (await patient).status == 204
    (idle,) = (it for lying in sender._pool._idle.values() for it in lying)
    idle.idle_since -= 4.6
    assert (await sender.post(url, {}, b"{}", 10)).status == 204
    assert receiver.connections == 2
    # Whoever asks for the same name shares the answer, and one that gives up takes it from nobody.
    assert asked == ["slow.example"]
    await sender.close()


async def test_nothing_is_called_back_from_within_send(sender: Sender, receiver: Receiver) -> None:
    ended: list[Attempt] = []
    for url in ("ftp://127.0.0.1/", "http://[::1/", receiver.url):
        sender.send(url, {}, b"{}", 5, ended.append)
    sender.send(receiver.url, {"x": "a\r\nb: c"}, b"{}", 5, ended.append)
    assert ended == []
    await wait_until(lambda: len(ended) == 4, "all have ended")
    assert sorted(it.error or "" for it in ended) == ["", "internal", "invalid_url", "invalid_url"]


async def test_each_deadline_rings_whichever_came_first(sender: Sender, receiver: Receiver) -> None:
    async def hang(received: object, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    receiver.answer = lambda received: hang
    ended: list[str] = []
    for name, timeout in (("late", 30.0), ("last", 0.6), ("first", 0.2), ("second", 0.4)):
        sender.send(receiver.url, {}, b"{}", timeout, lambda attempt, name=name: ended.append(name))  # type: ignore[misc]
    # Longer than it takes, and much less than the one that is not waited for.
    await wait_until(lambda: len(ended) >= 3, lambda: f"{ended}", patience=4)
    assert ended == ["first", "second", "last"]
    assert len(sender._deadlines.all()) == 1


async def test_nothing_is_kept_of_what_is_over(sender: Sender, receiver: Receiver) -> None:
    for _ in range(10):
        await sender.post(receiver.url, {}, b"{}", 60)
    assert sender._deadlines.all() == []


async def test_who_cancels_hears_nothing(sender: Sender, receiver: Receiver) -> None:
    async def hang(received: object, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    receiver.answer = lambda received: hang
    ended: list[Attempt] = []
    sending = [sender.send(receiver.url, {}, b"{}", 0.2, ended.append) for _ in range(2)]
    await wait_until(lambda: len(receiver.requests) == 2, "they are under way")
    sending[0].cancel()
    await wait_until(lambda: ended, "the other one ends")
    assert [it.error for it in ended] == ["timeout"]
    task = asyncio.create_task(sender.post(receiver.url, {}, b"{}", 5))
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)


async def test_what_is_under_way_ends_with_the_sender(receiver: Receiver) -> None:
    async def hang(received: object, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    receiver.answer = lambda received: hang
    sender = Sender(EgressGuard(LOCAL), allow_http=True)
    task = asyncio.create_task(sender.post(receiver.url, {}, b"{}", 30))
    await wait_until(lambda: receiver.requests, "it is under way")
    await sender.close()
    assert (await task).error == "internal"


# Addresses.


class Answers(Resolver):
    """Gives these addresses for every name."""

    def __init__(self, *addresses: Address) -> None:
        super().__init__()
        self.addresses = list(addresses)

    async def resolve(self, host: str, port: int) -> list[Address]:
        return self.addresses


async def test_the_next_address_is_tried(receiver: Receiver) -> None:
    """Beside one that does not answer, after one that refuses, and past one that is not allowed."""
    port = int(receiver.url.split(":")[2].split("/")[0])
    with socket.socket() as full, socket.socket() as nobody:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        nobody.bind(("127.0.0.1", 0))
        addresses = [
            Address(socket.AF_INET, full.getsockname()),
            Address(socket.AF_INET, nobody.getsockname()),
            Address(socket.AF_INET6, ("::1", port, 0, 0)),
            Address(socket.AF_INET, ("127.0.0.1", port)),
        ]
        sender = Sender(EgressGuard(LOCAL), allow_http=True, resolver=Answers(*addresses))
        attempt = await sender.post("http://many.example/", {}, b"{}", 10)
        assert (attempt.status, attempt.error) == (204, None)
        await sender.close()
        refusing = Sender(EgressGuard(LOCAL), allow_http=True, resolver=Answers(addresses[2], addresses[1]))
        assert (await refusing.post("http://many.example/", {}, b"{}", 10)).error == "connect"
        await refusing.close()
        for filler in fillers:
            filler.close()


async def test_ipv6(sender: Sender) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6")
    async with serving(serve, "::1") as port:
        assert (await sender.post(f"http://[::1]:{port}/a?b=%2F", {}, b"", 5)).status == 204
    assert heads[0].startswith(b"POST /a?b=%2F HTTP/1.1\r\n" + f"Host: [::1]:{port}\r\n".encode())


async def test_a_name_that_nobody_could_have() -> None:
    resolver = Resolver()
    with pytest.raises(NameUnknown):
        await resolver.resolve("a" * 64 + ".example", 80)
    resolver.close()


# What is sent.


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "head"),
    [
        ("http://a.example", False, "a.example", 80, "POST / HTTP/1.1\r\nHost: a.example\r\n"),
        ("https://A.example:443/x", True, "a.example", 443, "POST /x HTTP/1.1\r\nHost: a.example\r\n"),
        ("http://a.example:443/?q=%20", False, "a.example", 443, "POST /?q=%20 HTTP/1.1\r\nHost: a.example:443\r\n"),
        ("https://a.example/b/../%2e;p?c&d#e", True, "a.example", 443,
         "POST /b/../%2e;p?c&d HTTP/1.1\r\nHost: a.example\r\n"),
        ("https://[2001:db8::1]:8443/", True, "2001:db8::1", 8443, "POST / HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n"),
        ("https://bücher.example/", True, "xn--bcher-kva.example", 443,
         "POST / HTTP/1.1\r\nHost: xn--bcher-kva.example\r\n"),
        ("http://①②⑦.0.0.1/", False, "127.0.0.1", 80, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
    ],
)  # fmt: skip
def test_targets(url: str, secure: bool, host: str, port: int, head: str) -> None:
    assert read_target(url) == ((secure, host, port), head.encode())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/", "//a.example/", "http:///x", "http://a.example:0/", "http://a.example:99999/",
        "http://a.example:x/", "http://user@a.example/", "http://user:secret@a.example/", "http://a.example/ x",
        "http://a.example/\r\nX: y", "http://a.example\r\n/", "http://a\tb.example/", "http://a.example\\@b.example/",
        "http://[::1/", "http://a.example/ü", "http://" + "ü" * 64 + ".example/", "", "a.example",
    ],
)  # fmt: skip
def test_urls_that_are_no_target(url: str) -> None:
    with pytest.raises(InvalidTarget):
        read_target(url)


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\r\n\r\nPOST /"])
def test_no_header_can_carry_another(value: str) -> None:
    assert head_of({"a": "b", "c": "d"}, 3) == b"a: b\r\nc: d\r\nContent-Length: 3\r\n\r\n"
    for headers in ({"a": value}, {value: "a"}):
        with pytest.raises(ValueError, match="line end"):
            head_of(headers, 3)
