"""Real processes for the tests of this folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.support.broker import Broker
from tests.e2e.support.gateway import GatewayProcess
from tests.e2e.support.wire import subscribed
from tests.support.wait import wait_until_sync


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Redis of this module's own."""
    server = Broker(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway of this module's own; at the end it must still run, and must have logged no error."""
    folder = tmp_path_factory.mktemp("gateway")
    settings = {"heartbeat": 0.2, "request_timeout": 2.0, "drain_seconds": 0.1, "streams": "events,t:*"}
    process = GatewayProcess(folder, broker.url, probed=True, **settings)
    yield process
    process.close()


@pytest.fixture(scope="module")
def unharmed(gateway: GatewayProcess) -> Iterator[None]:
    """After the module the process holds the tasks, connections and subscribers that it held before it."""
    with subscribed(gateway.port) as (wire, _head):
        wire.chunk()
    wait_until_sync(lambda: not gateway.holding().subscribers, "no subscriber")
    # The bridge of the process begins a little after the process answers.
    wait_until_sync(lambda: "Intake._run" in gateway.holding().tasks, "the bridge drives the stream's own endpoint")
    before = gateway.holding()
    yield

    def same() -> bool:
        now = gateway.holding()
        more_tasks = Counter(now.tasks) - Counter(before.tasks)
        return not more_tasks and (now.connections, now.subscribers) == (before.connections, before.subscribers)

    try:
        wait_until_sync(same)
    except AssertionError:
        raise AssertionError(f"before {before}, after {gateway.holding()}") from None
