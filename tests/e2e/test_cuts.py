"""Connections cut at any byte, reset or ended early, again and again: clients of others get each event once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.client import Client, chromium, curl, node, python
from tests.e2e.support.cutter import Cutter
from tests.e2e.support.gateway import GatewayProcess
from tests.support.wait import wait_until_sync

EVENTS = 300
CLIENTS: dict[str, Callable[[str], list[str]]] = {
    "chromium": lambda url: chromium(url.replace("/api/events", "/healthz"), f"chromium={url}", "--", "sms.sent"),
    "eventsource": lambda url: node("eventsource.mjs", url, "sms.sent"),
    "eventsource-client": lambda url: node("eventsource_client.mjs", url),
    "fetch-event-source": lambda url: node("fetch_event_source.mjs", url),
    "httpx-sse": lambda url: python("httpx_client", url),
    "sseclient-py": lambda url: python("sseclient_client", url),
    "curl": curl,
}


@pytest.fixture(scope="module")
def restless(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("restless")
    gateway = GatewayProcess(folder, broker.url, heartbeat=0.5, retry=0.05, drain_seconds=0)
    yield gateway
    gateway.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIENTS)
def test_each_event_comes_once(restless: GatewayProcess, broker: Broker, tmp_path: Path, name: str) -> None:
    with ExitStack() as stack:
        mercy = name == "fetch-event-source"
        cutter = Cutter(restless.port, range(600, 6000), seed=len(name), mercy=mercy)
        stack.callback(cutter.stop)
        client = Client(tmp_path, name, command=CLIENTS[name](cutter.url))
        stack.callback(client.stop)
        wait_until_sync(lambda: restless.subscriptions() == 1, "the client is there", 60)
        ids = [broker.add("sms.sent", {"n": number, "text": "x" * (number % 500)}) for number in range(EVENTS)]
        wait_until_sync(lambda: cutter.cuts >= 10, "ten cuts", 60)
        cutter.be_kind()
        ids.append(broker.add("sms.sent", "the end"))
        wait_until_sync(lambda: ids[-1] in client.output(), "the end", 60)
        events = [message for message in client.received(name) if not message.type.startswith("gateway.")]
        assert [json.loads(message.data)["id"] for message in events] == ids
        assert [message.id for message in events] == ids
    wait_until_sync(lambda: restless.subscriptions() == 0, "no subscription")
