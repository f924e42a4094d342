"""Two gateways side by side on the same core, one open and one closed by a key: asked in turn, so that what the machine
does meanwhile meets both."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from loadtest import peers
from loadtest.peers import Peer, Site
from loadtest.rig import access
from loadtest.rig.bench import Bench
from loadtest.rig.broker import Broker
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import Load, first_event, no_garbage_collection, run_load
from loadtest.rig.publish import Publisher
from loadtest.rig.stats import Row

_REST = 0.2
"""Seconds. The same for both, so that what a gateway does while it has nothing to do is in neither's favour."""


@dataclass
class Side:
    peer: Peer
    publisher: Publisher

    async def measure(self, connections: int, at_once: int, events: int) -> Row:
        """Connect so many, deliver so many events to each, drop all."""
        with Fleet(self.peer.host, self.peer.port) as fleet, no_garbage_collection():
            before = self.peer.cpu()
            await fleet.open([self.peer.request()] * connections, at_once=at_once)
            await asyncio.sleep(_REST)
            connected = self.peer.cpu()
            await first_event(self.peer, fleet, self.publisher, 150)
            load = Load(connections, rate=20, seconds=events / 20, frame=150)
            found = await run_load(self.peer, fleet, self.publisher, load)
        await asyncio.sleep(_REST)
        return {
            "cpu_us_per_connect": (connected - before) / connections * 1e6,
            "cpu_us_per_delivery": found["cpu_us_per_delivery"],
            "lost": found["lost"],
        }


@contextlib.asynccontextmanager
async def _side(bench: Bench, *, key: bool) -> AsyncIterator[Side]:
    # A Redis each: keys close every gateway on theirs.
    folder = Path(tempfile.mkdtemp(dir=bench.folder))
    broker = Broker(folder, bench.args.generator_cores)
    peer = peers.load("gateway")(Site(folder, bench.args.server_cores, broker), bench.options(heartbeat=120.0))
    try:
        await broker.start()
        await peer.start()
        if key:
            await access.close(peer)
        publisher = await peer.publisher()
        try:
            yield Side(peer, publisher)
        finally:
            publisher.close()
    finally:
        peer.stop()
        broker.stop()


async def measure_in_turn(
    bench: Bench, connections: int, at_once: int, events: int, pairs: int
) -> list[tuple[Row, Row]]:
    """(open, with a key) of each of `pairs` pairs, after one that does not count; who is first changes every time."""
    found: list[tuple[Row, Row]] = []
    async with (
        _side(bench, key=False) as left,
        _side(bench, key=True) as right,
    ):
        for number in range(pairs + 1):
            bench.say(f"pair {number} of {pairs}: {connections} connects each")
            sides = (left, right) if number % 2 else (right, left)
            rows = {side.peer.port: await side.measure(connections, at_once, events) for side in sides}
            if number:
                found.append((rows[left.peer.port], rows[right.peer.port]))
    return found
