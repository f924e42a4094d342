"""Clients that nobody here wrote see the same events: through idle heartbeats, a crash and an orderly restart.

All run at the same time through one story, told once; then each is judged by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.client import Client, Received, chromium, curl, node, python
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import ask, subscribed
from tests.support.wait import wait_until_sync

TYPES = ["sms.sent", "voice.call.started", "sms.end"]
HEARD = [*TYPES, "gateway.caught-up", "gateway.closing", "gateway.gap"]
NAMES = [
    "chromium-named",
    "chromium-unnamed",
    "eventsource",
    "eventsource-client",
    "fetch-event-source",
    "httpx-sse",
    "sseclient-py",
    "curl",
]
WITHOUT_NAMES = {"chromium-unnamed"}
# What a payload can hold that readers of lines and of JSON have tripped over.
TEXTS = [
    "",
    " leading",
    "ü 雪 🙂",
    "a\nb\r\nc",
    "\u2028\u2029\u0085\x0b\x0c\x1c",
    "data: x\n\nevent: y",
    "\ufeff",
    "\0",
]


class Published(NamedTuple):
    """An event as it went in."""

    id: str
    type: str
    data: Any


class Story:
    """What was published, and what each client made of it."""

    def __init__(self, gateway: GatewayProcess, broker: Broker, clients: dict[str, Client]) -> None:
        self.published: list[Published] = []
        self.gateway, self.broker, self.clients = gateway, broker, clients

    def publish(self, count: int) -> None:
        """So many events by XADD, with some in between that nobody asked for."""
        for number in range(count):
            self.broker.add("noise.made", "not for them")
            self._remember(TYPES[number % 2], {"n": len(self.published), "text": TEXTS[number % len(TEXTS)]})

    def publish_over_http(self, count: int) -> None:
        """So many events in one POST."""
        payloads = [{"n": number, "text": TEXTS[number % len(TEXTS)]} for number in range(count)]
        body = json.dumps([{"type": TYPES[0], "data": payload} for payload in payloads]).encode()
        answer = ask(self.gateway.port, "POST", "/api/events", "Content-Type: application/json", body=body)
        assert answer.status == 201
        for payload, event_id in zip(payloads, answer.json()["ids"], strict=True):
            self.published.append(Published(event_id, TYPES[0], payload))

    def finish(self) -> None:
        """The last event, and a while for everybody to get it: who does not is judged later."""
        self._remember(TYPES[2], "the end")
        waiting = set(self.clients)

        def all_have_it() -> bool:
            waiting.difference_update({name for name in waiting if any(self._is_last(m) for m in self.received(name))})
            return not waiting

        try:
            wait_until_sync(all_have_it)
        except AssertionError:
            return

    def received(self, name: str) -> list[Received]:
        """All that a client was given."""
        return self.clients[name].received(name)

    def _is_last(self, message: Received) -> bool:
        return self.published[-1].id in message.data

    def _remember(self, type_: str, data: Any) -> None:
        self.published.append(Published(self.broker.add(type_, data), type_, data))

    def all_connected(self) -> None:
        """Wait until each has a subscription."""
        count = len(self.clients)
        wait_until_sync(lambda: self.gateway.subscriptions() == count, f"{count} subscriptions", 60)

    def idle(self) -> None:
        """Wait while heartbeats go out to all: one more subscriber counts them."""
        with subscribed(self.gateway.port) as (wire, _head):
            beats = 0
            while beats < 4:
                beats += wire.chunk().startswith(b":")


def start_clients(folder: Path, gateway: GatewayProcess, keep: Callable[[Client], Client]) -> dict[str, Client]:
    """All clients, each subscribed in the way its documentation says."""
    url = gateway.events + "?channel=sms,voice"
    started = [
        Client(
            folder,
            "chromium-named",
            "chromium-unnamed",
            command=chromium(
                gateway.url + "/healthz",
                f"chromium-named={url}",
                f"chromium-unnamed={url}&named=false",
                "--",
                *HEARD,
            ),
        ),
        Client(folder, "eventsource", command=node("eventsource.mjs", url, *HEARD)),
        Client(folder, "eventsource-client", command=node("eventsource_client.mjs", url)),
        Client(folder, "fetch-event-source", command=node("fetch_event_source.mjs", url)),
        Client(folder, "httpx-sse", command=python("httpx_client", url)),
        Client(folder, "sseclient-py", command=python("sseclient_client", url)),
        Client(folder, "curl", command=curl(url)),
    ]
    return {name: keep(client) for client in started for name in client.names}


@pytest.fixture(scope="module")
def story(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Told once."""
    folder = tmp_path_factory.mktemp("story")
    with ExitStack() as stack:
        gateway = GatewayProcess(folder, broker.url, heartbeat=0.3, retry=0.2, drain_seconds=0.2)
        stack.callback(gateway.close)

        def keep(client: Client) -> Client:
            stack.callback(client.stop)
            return client

        story = Story(gateway, broker, start_clients(folder, gateway, keep))
        story.all_connected()
        story.publish(20)
        story.publish_over_http(20)
        story.idle()
        story.publish(20)
        gateway.kill()
        story.publish(20)
        gateway.start()
        story.all_connected()
        story.publish(20)
        story.idle()
        gateway.stop()
        story.publish(20)
        gateway.start()
        story.all_connected()
        story.publish_over_http(20)
        story.finish()
        yield story


@pytest.mark.parametrize("name", NAMES)
def test_each_event_comes_once_in_order(story: Story, name: str) -> None:
    received = [message for message in story.received(name) if not message.type.startswith("gateway.")]
    named = name not in WITHOUT_NAMES
    wanted = [(event.type if named else "message", event.id) for event in story.published]
    assert [(message.type, message.id) for message in received] == wanted, story.clients[name].output()[-2000:]
    for message, event in zip(received, story.published, strict=True):
        envelope = json.loads(message.data)
        assert (envelope["id"], envelope["type"], envelope["data"]) == (event.id, event.type, event.data)


@pytest.mark.parametrize("name", NAMES)
def test_no_empty_message_and_no_gap(story: Story, name: str) -> None:
    received = story.received(name)
    assert all(message.data for message in received)
    types = {message.type for message in received}
    allowed = {*TYPES, "gateway.caught-up", "gateway.closing"}
    assert types <= (allowed | {"message"} if name in WITHOUT_NAMES else allowed)


@pytest.mark.parametrize("name", NAMES)
def test_the_drain_says_goodbye(story: Story, name: str) -> None:
    closing = [json.loads(message.data) for message in story.received(name) if message.type == "gateway.closing"]
    assert closing == [{"reason": "drain", "reconnect": True}]
