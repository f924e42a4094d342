"""The basic load: so many subscribers, so many events a second, for so long; and what that cost the server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from loadtest.peers import Peer
from loadtest.rig.fleet import Fleet
from loadtest.rig.payload import payload
from loadtest.rig.process import own_cpu
from loadtest.rig.publish import Publisher, pace, settle
from loadtest.rig.stats import Row, quantile
from loadtest.rig.wait import until


@dataclass(frozen=True)
class Load:
    """One channel, everyone subscribed to it."""

    subscribers: int
    rate: float
    """Events a second."""
    seconds: float
    frame: int
    """Bytes of a frame on the wire."""
    samplers: int = 50
    """Subscribers that measure latency."""
    warmup: float = 1.0
    """Seconds of the same load before the measurement."""
    drain: float = 10.0
    """Seconds to wait for the last event."""


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The generator's own pauses must not look like the server's latency."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def first_event(peer: Peer, fleet: Fleet, publisher: Publisher, size: int, seconds: float = 20.0) -> None:
    """Publish one event and wait until everybody has it, so that all are known to be live."""
    before = fleet.counts()
    publisher.send(payload(0, size))
    if not await until(lambda: all(now > then for now, then in zip(fleet.counts(), before, strict=True)), seconds):
        behind = sum(now <= then for now, then in zip(fleet.counts(), before, strict=True))
        raise RuntimeError(f"{peer.name}: {behind} of {len(before)} subscribers never saw the first event")


async def deliver(peer: Peer, load: Load) -> Row:
    """Run `load` against a started server with fresh connections. Units are in the names of the keys."""
    size = peer.size(load.frame)
    publisher = await peer.publisher()
    with Fleet(peer.host, peer.port) as fleet:
        try:
            await fleet.open([peer.request()] * load.subscribers, samplers=load.samplers)
            await first_event(peer, fleet, publisher, size)
            if load.warmup:
                await run_load(peer, fleet, publisher, replace(load, seconds=load.warmup))
            with no_garbage_collection():
                return await run_load(peer, fleet, publisher, load)
        finally:
            publisher.close()


async def run_load(peer: Peer, fleet: Fleet, publisher: Publisher, load: Load) -> Row:
    """Publish to a fleet that is live, wait for the last delivery, and take the difference of all meters."""
    fleet.forget_latencies()
    counts, volume, broker = fleet.counts(), fleet.bytes(), peer.site.broker.cpu()
    cpu, own, start = peer.cpu(), own_cpu(), time.monotonic()
    sent = await pace(publisher, rate=load.rate, seconds=load.seconds, size=peer.size(load.frame))
    published = time.monotonic() - start
    expected = sum(counts) + sent * len(counts)
    await until(lambda: fleet.total() >= expected, load.drain)
    elapsed = time.monotonic() - start
    cpu, own, broker = peer.cpu() - cpu, own_cpu() - own, peer.site.broker.cpu() - broker
    await settle(publisher, 1.0)
    got = [now - then for now, then in zip(fleet.counts(), counts, strict=True)]
    delivered = sum(got)
    latencies = fleet.latencies()
    return {
        "deliveries": delivered,
        "deliveries_per_s": delivered / elapsed,
        "cpu_us_per_delivery": cpu / delivered * 1e6 if delivered else float("nan"),
        "cpu_us_per_event": cpu / sent * 1e6,
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "lost": sum(max(0, sent - count) for count in got),
        "extra": sum(max(0, count - sent) for count in got),
        "sent_per_s": sent / max(published, load.seconds),
        "server_cpu_percent": 100 * cpu / elapsed,
        "generator_cpu_percent": 100 * own / elapsed,
        "redis_cpu_percent": 100 * broker / elapsed,
        "bytes_per_delivery": (fleet.bytes() - volume) / delivered if delivered else float("nan"),
    }


async def quiet(peer: Peer, seconds: float = 20.0) -> float:
    """Wait until the server has nothing left to do; its CPU seconds then."""
    deadline = time.monotonic() + seconds
    used = peer.cpu()
    while time.monotonic() < deadline:
        await asyncio.sleep(0.25)
        before, used = used, peer.cpu()
        if used - before <= 0.011:
            break
    return used
