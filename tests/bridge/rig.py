"""A bridge inside the test's own loop, over a real Redis."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from gateway.backend.connection import connect
from gateway.bridge.bridge import Bridge, BridgeOptions
from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import Endpoint, EndpointConfig, Secret
from gateway.bridge.parts import Pace
from gateway.bridge.signature import make_secret
from gateway.events.position import EventId
from gateway.stream.log import Limits, Log
from gateway.stream.store import Store
from gateway.telemetry import Telemetry
from tests.support.wait import wait_until

LOCAL = ("127.0.0.0/8",)
QUICK = Pace(lease=3.0, sweep=0.2, patience=1.0)


class Rig:
    """`start` and `stop` it; then `endpoint` and `publish`."""

    def __init__(self, url: str, *, pace: Pace = QUICK, streams: tuple[str, ...] = ("events",), **options: Any) -> None:
        bridge = {key: options.pop(key) for key in ("clock", "failpoint") if key in options}
        self._alone = options.pop("alone", True)
        self._works = options.pop("works", True)
        limits = options.pop("limits", Limits())
        self.client = connect(url, connections=64)
        self._clients = [self.client]
        self.telemetry = Telemetry()
        self.store = Store(self.client)
        self.log = Log(
            self.store,
            lambda: Store(self._connect(url, 1)),
            streams,
            limits,
            self.telemetry,
            time.monotonic,
            random.random,
        )
        self._bridge_options = BridgeOptions(**{"allow_http": True, "allow_cidrs": LOCAL, **options})
        self._arguments: dict[str, Any] = {"pace": pace, **bridge}
        self._url = url
        self.bridge: Bridge

    def _connect(self, url: str, connections: int) -> Any:
        client = connect(url, connections=connections)
        self._clients.append(client)
        return client

    async def __aenter__(self) -> Rig:
        self.log.start()
        for reader in self.log.readers:
            assert await reader.ready(10)
        waiting = self._connect(self._url, 1)
        self.bridge = Bridge(
            self.log, self.client, waiting, CollectorRegistry(), self._bridge_options, **self._arguments
        )
        if not self._works:
            return self
        self.worker = self.bridge.start()
        if self._alone:
            await wait_until(lambda: self.worker._leases.held == 64, "shards are held")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bridge.stop()
        await self.log.stop()
        for client in self._clients:
            await client.aclose()

    async def endpoint(self, url: str, *, driven: bool = True, **fields: Any) -> Endpoint:
        """A new endpoint at the tail; `driven`: by this bridge, when this returns."""
        config = EndpointConfig(url=url, **fields)
        scheme = DIALECTS[config.dialect].scheme
        secrets = () if scheme is None else (Secret(make_secret(scheme, random.randbytes(32))),)
        now = int(time.time() * 1000)
        endpoint = Endpoint(f"whk_{random.getrandbits(64):016x}", config, secrets, now, now)
        info = await self.store.info(config.stream)
        await self.bridge.registry.create(endpoint, EventId(info.last_id))
        if not driven:
            return endpoint
        await wait_until(lambda: endpoint.id in self.worker.pumps, "the endpoint is driven")
        await wait_until(lambda: self.worker.pumps[endpoint.id].main.live, "the endpoint is at the tail")
        return endpoint

    async def publish(self, count: int = 1, type: str = "sms.sent", stream: str = "events", **fields: Any) -> list[str]:
        """Add events; their ids."""
        entries = [
            (stream, {"type": type.encode(), "data": b'{"n":%d}' % n, **{k: v.encode() for k, v in fields.items()}})
            for n in range(count)
        ]
        ids: list[str] = []
        for at in range(0, count, 1000):
            ids += await self.store.append(entries[at : at + 1000])
        return ids

    async def statuses(self, endpoint: Endpoint, limit: int = 1000) -> Sequence[str]:
        """Of the log, oldest first."""
        deliveries, _ = await self.bridge.ledger.logs(endpoint.id, limit, None, None)
        return [delivery.status for delivery in reversed(deliveries)]
