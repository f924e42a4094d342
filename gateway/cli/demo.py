"""``--demo``: sample events, published with XADD as any producer would."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time

import orjson

from gateway.backend.connection import UNAVAILABLE, connect
from gateway.cli.samples import Sample, Samples
from gateway.events.event import format_time
from gateway.stream.store import Fields, Store

_log = logging.getLogger(__name__)


def _fields(sample: Sample) -> Fields:
    return {
        "type": sample.type.encode(),
        "data": orjson.dumps(sample.data),
        "tenant": sample.tenant.encode(),
    }


class Demo:
    """Publishes about `rate` events a second to `stream`, from `start` to `stop`, in a thread of its own."""

    def __init__(self, redis_url: str, stream: str, rate: float, chance: random.Random | None = None) -> None:
        self._url = redis_url
        self._stream = stream
        self._rate = rate
        self._random = chance or random.Random()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._publish()), name="demo", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the last event has been published. Does nothing before `start`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    async def _publish(self) -> None:
        samples = Samples(self._random, lambda: format_time(time.time_ns() // 1_000_000))
        client = connect(self._url, name="gateway-demo", connections=1)
        store = Store(client)
        away = False
        try:
            due = time.monotonic()
            while not self._stopping.is_set():
                try:
                    await store.append([(self._stream, _fields(next(samples)))])
                    away = False
                except UNAVAILABLE as error:
                    if not away:
                        _log.warning("demo.waiting %s", error)
                    away, due = True, time.monotonic() + 1.0
                # Like independent callers: exponential gaps, catching up when the machine was slow.
                due = max(due + self._random.expovariate(self._rate), time.monotonic() - 1.0)
                if (left := due - time.monotonic()) > 0:
                    await asyncio.to_thread(self._stopping.wait, left)
        finally:
            await client.aclose()
