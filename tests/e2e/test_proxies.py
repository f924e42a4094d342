"""Behind proxies that know nothing of streams: events pass at once, departures too, and clients come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.client import Client, node, python
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.proxy import KINDS, Proxy
from tests.e2e.support.wire import ask, connected, request, subscribed
from tests.support.wait import wait_until_sync

SILENCE = 3600.0


@pytest.fixture(scope="module")
def silent(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose heartbeats never come: nothing that follows an event can push it through a buffer."""
    folder = tmp_path_factory.mktemp("silent")
    gateway = GatewayProcess(folder, broker.url, heartbeat=SILENCE, retry=0.2, drain_seconds=0)
    yield gateway
    gateway.close()


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, silent: GatewayProcess, tmp_path: Path) -> Iterator[Proxy]:
    server = Proxy(request.param, tmp_path, silent.port)
    yield server
    server.stop()


def read_until(wire_chunks: Iterator[bytes], wanted: str) -> bytes:
    """The body up to and with `wanted`."""
    body = b""
    while wanted.encode() not in body:
        body += next(wire_chunks)
    return body


def all_gone(gateway: GatewayProcess, broker: Broker) -> None:
    """Wait until the gateway has no subscription. HAProxy sees that a client left when it has bytes for it."""

    def none_left() -> bool:
        broker.add("sms.sent", "nobody reads this")
        return gateway.subscriptions() == 0

    wait_until_sync(none_left, "no subscription")


def test_each_event_passes_without_a_push(proxy: Proxy, silent: GatewayProcess, broker: Broker) -> None:
    with subscribed(proxy.port) as (wire, head):
        assert head.status == 200
        assert head.get("content-type") == "text/event-stream; charset=utf-8"
        chunks = iter(wire.chunk, b"")
        assert read_until(chunks, "gateway.caught-up").startswith(b"retry: ")
        for number in range(5):
            read_until(chunks, broker.add("sms.sent", number))
    all_gone(silent, broker)


def test_ndjson_and_pages_pass_too(proxy: Proxy, broker: Broker) -> None:
    tail = broker.add("sms.sent", 0)
    with subscribed(proxy.port, "/api/events", "Accept: application/x-ndjson") as (wire, _head):
        chunks = iter(wire.chunk, b"")
        read_until(chunks, "gateway.caught-up")
        last = broker.add("sms.sent", 1)
        read_until(chunks, last)
    page = ask(proxy.port, "GET", f"/api/events?since={tail}", "Accept: application/json").json()
    assert [event["id"] for event in page["events"]] == [last]


def test_publishing_through_it(proxy: Proxy, broker: Broker) -> None:
    answer = ask(
        proxy.port, "POST", "/api/events", "Content-Type: application/json", body=b'{"type":"sms.sent","data":1}'
    )
    assert answer.status == 201
    assert broker.client.xrevrange("events", count=1)[0][0].decode() == answer.json()["ids"][0]
    assert ask(proxy.port, "GET", "/api/events?typ=x").json()["errors"][0]["field"] == "typ"


def test_head_through_it(proxy: Proxy) -> None:
    with connected(proxy.port) as wire:
        wire.send(request("HEAD", "/api/events"))
        assert wire.answer("HEAD").head.get("gateway-position")


def test_clients_come_back_through_it(proxy: Proxy, silent: GatewayProcess, broker: Broker, tmp_path: Path) -> None:
    clients = [
        Client(tmp_path, "fetch-event-source", command=node("fetch_event_source.mjs", proxy.url)),
        Client(tmp_path, "eventsource-client", command=node("eventsource_client.mjs", proxy.url)),
        Client(tmp_path, "httpx-sse", command=python("httpx_client", proxy.url)),
        Client(tmp_path, "sseclient-py", command=python("sseclient_client", proxy.url)),
    ]
    try:
        wait_until_sync(lambda: silent.subscriptions() == len(clients), "all are there", 60)
        ids = [broker.add("sms.sent", number) for number in range(5)]
        silent.kill()
        ids += [broker.add("sms.sent", number) for number in range(5)]
        silent.start()
        wait_until_sync(lambda: silent.subscriptions() == len(clients), "all are back", 60)
        ids += [broker.add("sms.sent", number) for number in range(5)]
        for client in clients:
            (name,) = client.names
            wait_until_sync(
                lambda c=client, n=name: ids[-1] in c.output() and bool(c.received(n)), f"the end at {name}"
            )
            events = [message for message in client.received(name) if not message.type.startswith("gateway.")]
            assert [json.loads(message.data)["id"] for message in events] == ids, name
            assert [message.id for message in events] == ids, name
    finally:
        for client in clients:
            client.stop()
    all_gone(silent, broker)
