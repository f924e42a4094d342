"""The bridge of one process, put together from plain values."""

from __future__ import annotations

import os
import random
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from gateway.backend.connection import Redis
from gateway.bridge.clock import Clock, RealClock
from gateway.bridge.egress import EgressGuard
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.lease import any_bridge
from gateway.bridge.ledger import Ledger
from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.ownurl import OwnUrls
from gateway.bridge.parts import Pace, Parts
from gateway.bridge.registry import Registry
from gateway.bridge.secretbox import SecretBox
from gateway.bridge.sender import Sender
from gateway.bridge.worker import Worker
from gateway.events.position import EventId
from gateway.stream.log import Log


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """What the operator says of the bridge. See `gateway.settings` for meanings and units."""

    product: str = "sse-gateway"
    allow_http: bool = False
    allow_cidrs: tuple[str, ...] = ()
    secret_key: str | None = None
    default_secret: str | None = None
    logs_kept: int = 1000
    logs_age: float = 7 * 86400.0
    max_endpoints_per_tenant: int = 0
    tls: ssl.SSLContext | None = None


class Bridge:
    """The parts that the API and the worker share; make it inside the running loop. `waiting` may be blocked."""

    def __init__(
        self,
        stream_log: Log,
        client: Redis,
        waiting: Redis,
        metrics: CollectorRegistry,
        options: BridgeOptions,
        *,
        clock: Clock | None = None,
        pace: Pace | None = None,
        narrow: Callable[[Endpoint], Endpoint | None] = lambda endpoint: endpoint,
        failpoint: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.log = stream_log
        self.options = options
        self.clock = clock or RealClock()
        self.metrics = BridgeMetrics(metrics)
        box = SecretBox(options.secret_key)
        self.registry = Registry(client, box)
        self.ledger = Ledger(client, logs_kept=options.logs_kept)
        self.sender = Sender(EgressGuard(options.allow_cidrs), allow_http=options.allow_http, tls=options.tls)
        self._client = client
        self._waiting = Registry(waiting, box)
        self.own_urls = OwnUrls(stream_log, self.registry, options.default_secret, self.clock.now, secrets.token_bytes)
        self._pace = pace or Pace(logs_age=options.logs_age)
        self.narrow = narrow
        self._failpoint = failpoint
        self.worker: Worker | None = None

    def start(self) -> Worker:
        """Deliver, beside answering the API."""
        parts = Parts(
            log=self.log,
            registry=self.registry,
            ledger=self.ledger,
            client=self._client,
            waiting=self._waiting,
            own_urls=self.own_urls,
            sender=self.sender,
            metrics=self.metrics,
            clock=self.clock,
            monotonic=time.monotonic,
            luck=random.random,
            shuffle=random.shuffle,
            narrow=self.narrow,
            failpoint=self._failpoint,
        )
        name = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        worker = Worker(parts, name=name, product=self.options.product, pace=self._pace)
        self.worker = worker
        worker.start()
        return worker

    async def slowest(self, stream: str) -> EventId | None:
        """The lowest position of the active endpoints of `stream` and of their replays; None without any."""
        found = [it for it in (await self.registry.all()).values() if it.config.active and it.config.stream == stream]
        if any(it.system for it in found) and not await any_bridge(self._client):
            # Nobody asked for these. Where no bridge runs for good, they must not keep the stream from being trimmed.
            found = [it for it in found if not it.system]
        active = [it.id for it in found]
        return min(await self.ledger.positions(active), default=None) if active else None

    async def stop(self) -> None:
        """Finish what is in flight and close all connections to receivers."""
        if self.worker is not None:
            await self.worker.stop()
        await self.sender.close()
