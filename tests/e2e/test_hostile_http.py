"""Bytes that are no proper HTTP, or more of it than is decent: refused, never a crash, nothing left behind."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, suppress

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.problem import check_problem
from tests.e2e.support.wire import Answer, connected, request, subscribed

pytestmark = pytest.mark.usefixtures("unharmed")

EVENT = b'{"type":"sms.sent","data":1}'
HEAD = b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def statuses(received: bytes) -> list[int]:
    """The status of each response in these bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


def answers_to(gateway: GatewayProcess, data: bytes) -> list[int]:
    """Send, read until the other side closes; the status of each answer."""
    with connected(gateway.port) as wire:
        with suppress(OSError):  # refused before all of it was sent
            wire.send(data)
        received = wire.rest()
    assert b"Traceback" not in received
    return statuses(received)


NOT_HTTP = {
    "nothing": b"",
    "line breaks": b"\r\n" * 1000,
    "NULs": b"\0" * 1000,
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 160,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9,
    "HTTP/9.9": b"GET /api/events HTTP/9.9\r\nHost: x\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a lower-case method": b"get /api/events HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"SUBSCRIBE-ALL /api/events HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long method": b"G" * 100_000 + b" / HTTP/1.1\r\n\r\n",
    "a blank in the path": b"GET /api/ events HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the path": b"GET /api/events\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in a header": GET + b"Last-Event-ID: 1-0\0\r\n\r\n",
    "a lone CR in a header": GET + b"Last-Event-ID: 1-0\rX-Forged: 1\r\n\r\n",
    "a header without a colon": GET + b"Last-Event-ID\r\n\r\n",
    "a blank before the colon": HEAD + b"Content-Length : 28\r\n\r\n" + EVENT,
    "a nameless header": GET + b": x\r\n\r\n",
    "a folded first header": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "no end": GET,
}


@pytest.mark.parametrize("case", NOT_HTTP)
def test_what_is_no_request_is_refused(gateway: GatewayProcess, case: str) -> None:
    assert answers_to(gateway, NOT_HTTP[case]) in ([], [400], [408], [431])


LYING = {
    "negative": b"Content-Length: -1\r\n\r\n",
    "with a sign": b"Content-Length: +28\r\n\r\n",
    "in hex": b"Content-Length: 0x1c\r\n\r\n",
    "huge": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "no number": b"Content-Length: many\r\n\r\n",
    "a list": b"Content-Length: 28, 28\r\n\r\n",
    "twice, and different": b"Content-Length: 28\r\nContent-Length: 5\r\n\r\n",
    "twice, and the same": b"Content-Length: 28\r\nContent-Length: 28\r\n\r\n",
    "with chunks": b"Content-Length: 28\r\nTransfer-Encoding: chunked\r\n\r\n",
    "with chunks first": b"Transfer-Encoding: chunked\r\nContent-Length: 28\r\n\r\n",
    "chunked is not the last coding": b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n",
    "a hidden coding": b"Transfer-Encoding:\x0bchunked\r\n\r\n",
}


@pytest.mark.parametrize("case", LYING)
def test_a_body_of_doubtful_length_is_stored_never(gateway: GatewayProcess, broker: Broker, case: str) -> None:
    before = broker.length()
    # What a smuggler would have the next server take for a second request.
    found = answers_to(gateway, HEAD + LYING[case] + EVENT + b"0\r\n\r\n" + LAST)
    assert found in ([], [400], [422], [415]) or (len(found) == 2 and 400 <= found[0] < 500 and found[1] == 400), found
    assert broker.length() == before


def test_a_length_too_short_cuts_the_body(gateway: GatewayProcess, broker: Broker) -> None:
    before = broker.length()
    assert answers_to(gateway, HEAD + b"Content-Length: 10\r\n\r\n" + EVENT) in ([422, 400], [400])
    assert broker.length() == before


@pytest.mark.parametrize("ending", ["closed", "held open"])
def test_a_length_too_long_waits_no_longer_than_allowed(gateway: GatewayProcess, broker: Broker, ending: str) -> None:
    before = broker.length()
    with connected(gateway.port) as wire:
        wire.send(HEAD + b"Content-Length: 500\r\n\r\n" + EVENT)
        if ending == "closed":
            wire.socket.shutdown(1)
            assert statuses(wire.rest()) in ([], [400])
        else:
            check_problem(wire.answer(), 408)
            assert wire.rest() == b""
    assert broker.length() == before


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def test_a_chunked_body_is_a_body(gateway: GatewayProcess, broker: Broker) -> None:
    before = broker.length()
    pieces = b"".join(b"%x;note=1\r\n%b\r\n" % (1, bytes([byte])) for byte in EVENT)
    assert answers_to(gateway, CHUNKED + pieces + b"0\r\nX-Trailer: 1\r\n\r\n" + LAST) == [201, 200]
    assert broker.length() == before + 1


@pytest.mark.parametrize(
    "body",
    [
        b"ffffffffffffffffff\r\n" + EVENT,
        b"-1\r\n" + EVENT,
        b"1c \r\n" + EVENT + b"\r\n0\r\n\r\n",
        b"zz\r\n" + EVENT,
        b"1c\n" + EVENT + b"\n0\n\n",
        b"5\r\n" + EVENT + b"\r\n0\r\n\r\n",
        b"1c\r\n" + EVENT,
        b"1c;" + b"x" * 100_000 + b"\r\n" + EVENT,
    ],
)
def test_broken_chunks_store_nothing(gateway: GatewayProcess, broker: Broker, body: bytes) -> None:
    before = broker.length()
    found = answers_to(gateway, CHUNKED + body)
    assert all(400 <= status < 500 for status in found), found
    assert broker.length() == before


def test_chunks_without_end_are_cut_off(gateway: GatewayProcess, broker: Broker) -> None:
    before = broker.length()
    with connected(gateway.port) as wire:
        wire.send(CHUNKED)
        piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        with suppress(OSError):
            for _ in range(64):
                wire.send(piece)
        assert statuses(wire.rest()) in ([], [408], [413])
    assert broker.length() == before


def test_expect_100_continue(gateway: GatewayProcess) -> None:
    with connected(gateway.port) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(EVENT))
        assert wire.head().status == 100
        wire.send(EVENT)
        assert wire.answer().status == 201


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-A: 1\r\n" * 20_000 + b"\r\n",
        GET + b"X-A: " + b"a" * (1 << 20) + b"\r\n\r\n",
        GET + b"X-" + b"a" * (1 << 20) + b": 1\r\n\r\n",
        b"GET /api/events?type=" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"Cookie: " + b"a=b; " * 20_000 + b"\r\n\r\n",
    ],
    ids=["many headers", "a long value", "a long name", "a long path", "a long cookie"],
)
def test_a_head_without_end_is_cut_off(gateway: GatewayProcess, head: bytes) -> None:
    assert answers_to(gateway, head) in ([], [400], [431])


@pytest.mark.parametrize("sent", [b"", b"GET", GET, GET + b"X-A: "])
def test_a_slow_head_is_given_up(gateway: GatewayProcess, sent: bytes) -> None:
    with connected(gateway.port) as wire:
        wire.send(sent)
        assert statuses(wire.rest()) in ([], [408])


def test_200_slow_heads_leave_nothing(gateway: GatewayProcess) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(connected(gateway.port)) for _ in range(200)]
        for wire in wires:
            wire.send(GET)
        with subscribed(gateway.port) as (live, _head):
            assert live.chunk().startswith(b"retry: ")
        assert {tuple(statuses(wire.rest())) for wire in wires} <= {(), (408,)}


def test_pipelined_requests_are_answered_in_order(gateway: GatewayProcess) -> None:
    post = request("POST", "/api/events", "Content-Type: application/json", body=EVENT)
    bad = request("GET", "/api/events?typ=1")
    with connected(gateway.port) as wire:
        wire.send(HEALTH + post + bad + HEALTH)
        found: list[Answer] = [wire.answer() for _ in range(4)]
    assert [answer.status for answer in found] == [200, 201, 400, 200]


@pytest.mark.parametrize("after", [b"", HEALTH, request("GET", "/api/events")])
def test_a_request_behind_a_subscription_in_the_same_segment_does_not_end_it(
    gateway: GatewayProcess, broker: Broker, after: bytes
) -> None:
    with connected(gateway.port) as wire:
        wire.send(request("GET", "/api/events") + after)
        assert wire.head().status == 200
        received = b""
        while b"caught-up" not in received:
            received += wire.chunk()
        number = broker.add("sms.sent", {"behind": len(after)})
        while number.encode() not in received:
            received += wire.chunk()
    assert b"HTTP/1.1" not in received


@pytest.mark.parametrize(
    "more",
    [HEALTH, GET + b"\r\n", GET, b"garbage\r\n\r\n", b"\0" * 100_000, HEAD + b"Content-Length: 28\r\n\r\n" + EVENT],
)
def test_what_is_sent_after_a_subscription_never_shows_in_its_stream(
    gateway: GatewayProcess, broker: Broker, more: bytes
) -> None:
    with subscribed(gateway.port) as (wire, _head):
        received = b""
        while b"caught-up" not in received:
            received += wire.chunk()
        with suppress(OSError):
            wire.send(more)
        # Longer than a slow head may take: four heartbeats and more are in this.
        beats, ended = 0, False
        while beats < 12 and not ended:
            try:
                chunk = wire.chunk()
            except (AssertionError, OSError) as end:
                ended = True
                assert not re.search("HTTP", str(end)), end
                continue
            beats += chunk == b":\n"
            ended = chunk == b""


def test_bodies_with_requests_for_events(gateway: GatewayProcess) -> None:
    body = json.dumps({"type": "x"}).encode()
    with connected(gateway.port) as wire:
        wire.send(request("GET", "/api/events?typ=1", body=body) + HEALTH)
        assert [wire.answer().status, wire.answer().status] == [400, 200]
