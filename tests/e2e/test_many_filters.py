"""What a client chooses must not grow the process: filters, streams, positions, and ways to leave."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import connected, request
from tests.support.wait import wait_until_sync

pytestmark = [pytest.mark.usefixtures("unharmed"), pytest.mark.slow]

REQUESTS = 10_000
ALLOWED_GROWTH = 24 << 20
"""Bytes. One kilobyte kept of each request would be 10 MiB; a memo of 4,096 entries may fill."""


def no_subscription(gateway: GatewayProcess) -> int:
    """Wait until all have left; the resident memory."""
    wait_until_sync(lambda: gateway.subscriptions() == 0, "no subscription")
    return gateway.holding().resident


def subscribe_and_leave(gateway: GatewayProcess, numbers: range) -> None:
    """A subscription with a filter of its own for each number, ended by a reset; some hundred stand side by side."""
    standing: list[socket.socket] = []
    for number in numbers:
        sock = socket.create_connection(("127.0.0.1", gateway.port), 20)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(request("GET", f"/api/events?type=sms.{number}*&channel=c{number}"))
        standing.append(sock)
        if len(standing) == 250:
            for one in standing:
                assert one.recv(12) == b"HTTP/1.1 200"
                one.close()
            standing.clear()


def test_ten_thousand_filters_leave_no_memory_behind(gateway: GatewayProcess, broker: Broker) -> None:
    subscribe_and_leave(gateway, range(1000))
    before = no_subscription(gateway)
    subscribe_and_leave(gateway, range(1000, 1000 + REQUESTS))
    assert no_subscription(gateway) - before < ALLOWED_GROWTH


def test_ten_thousand_refused_filters_leave_no_memory_behind(gateway: GatewayProcess) -> None:
    def ask_for(numbers: range) -> None:
        with connected(gateway.port) as wire:
            for start in range(numbers.start, numbers.stop, 100):
                wire.send(b"".join(request("GET", f"/api/events?typ{n}=x{n}") for n in range(start, start + 100)))
                assert {wire.answer().status for _ in range(100)} == {400}

    ask_for(range(1000))
    before = no_subscription(gateway)
    ask_for(range(1000, 1000 + REQUESTS))
    assert no_subscription(gateway) - before < ALLOWED_GROWTH


def test_events_of_ten_thousand_kinds_leave_no_memory_behind(gateway: GatewayProcess, broker: Broker) -> None:
    def publish(numbers: range) -> None:
        pipe = broker.client.pipeline(transaction=False)
        for number in numbers:
            pipe.xadd("events", {"type": f"kind.n{number}", "data": "1", "tenant": f"t{number}"}, maxlen=1000)
        last = pipe.execute()[-1].decode()
        assert b"\nid: %b\n\n" % last.encode() in read_until(wire, last)

    def read_until(wire_: socket.socket, position: str) -> bytes:
        tail = b""
        while b"\nid: %b\n\n" % position.encode() not in tail:
            tail = tail[-4096:] + wire_.recv(1 << 16)
        return tail

    with connected(gateway.port) as connection:
        wire = connection.socket
        wire.sendall(request("GET", "/api/events?type=kind.*"))
        while b"caught-up" not in wire.recv(1 << 16):
            pass
        publish(range(REQUESTS))
        before = gateway.holding().resident
        # the window holds 20,000 events: it is let fill before, and turned over after
        publish(range(REQUESTS, 3 * REQUESTS))
        assert gateway.holding().resident - before < 2 * ALLOWED_GROWTH


@pytest.mark.parametrize("seed", range(3))
def test_however_clients_leave_nothing_stays(gateway: GatewayProcess, broker: Broker, seed: int) -> None:
    """Closed, half closed, reset; before, in and after the head, in a replay, while events come."""
    chance = random.Random(seed)
    start = broker.add("sms.sent", 0)
    for number in range(300):
        broker.add("sms.sent", "x" * 1000)
        sock = socket.create_connection(("127.0.0.1", gateway.port), 20)
        query = chance.choice(["", f"?since={start}", "?since=earliest&stream=events", "?last=100", "?named=false"])
        accept = chance.choice(["*/*", "application/x-ndjson", "application/json"])
        data = request(chance.choice(["GET", "GET", "HEAD"]), f"/api/events{query}", f"Accept: {accept}")
        sock.sendall(data[: chance.choice([len(data), len(data), number % len(data)])])
        if chance.random() < 0.5:
            sock.settimeout(0.05)
            with suppress(TimeoutError):
                sock.recv(chance.choice([1, 100, 100_000]))
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif chance.random() < 0.5:
            sock.shutdown(socket.SHUT_WR)
        sock.close()
    no_subscription(gateway)
