"""A bridge under fire: what is done to it and to Redis, and which duplicates that explains."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.broker import Broker
from loadtest.rig.hostile import Target
from loadtest.rig.process import ProcessTree
from loadtest.rig.wait import until

TIMEOUT: Final = 2
"""Seconds of an attempt: what hangs, drips or stalls costs this much."""
_NEAR: Final = 2.0
"""Seconds around a death in which an accepted delivery may not have been committed."""


@dataclass
class Blow:
    """Something that was done to the gateway, Unix time `at`.

    `harms`: a bridge could not write down what it had delivered shortly before, or since then until `over`.
    """

    kind: str
    at: float
    over: float
    harms: bool


class Puzzle(NamedTuple):
    """A duplicate that the rule does not explain: after which blow, at which receiver, seconds from the blow."""

    kind: str
    fault: str | None
    first: float
    again: float


@dataclass
class Field:
    """The whole scene."""

    bench: Bench
    broker: Broker
    api: Peer
    targets: list[Target]
    env: dict[str, str]
    published: list[tuple[bytes, float]] = field(default_factory=list)
    """(webhook id, Unix time) of what Redis has acknowledged."""
    bridges: list[ProcessTree] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    started: int = 0
    enabled: int = 0
    """Endpoints switched on again after a 410."""

    async def bridge(self) -> None:
        """One more."""
        self.started += 1
        log = self.bench.folder / f"bridge{self.started}.log"
        command = [sys.executable, "-m", "gateway", "bridge", "--redis-url", self.broker.url]
        process = ProcessTree(command, cores=self.bench.args.server_cores, log=log, env=self.env)
        self.bridges.append(process)
        await process.wait_until(lambda: "delivering" in process.output(), 60)

    def blow(self, kind: str, *, harms: bool) -> Blow:
        """Note one that begins now."""
        self.bench.say(f"{kind}; {len(self.published):,} events so far")
        now = time.time()
        self.blows.append(Blow(kind, now, now, harms))
        return self.blows[-1]

    # The blows. Each takes the bridge that has run longest.

    async def kill(self) -> None:
        self.blow("SIGKILL", harms=True)
        self.bridges.pop(0).kill()
        await self.bridge()

    async def leave(self) -> None:
        """A second bridge joins while one leaves politely."""
        self.blow("join and leave", harms=False)
        leaving = self.bridges.pop(0)
        await self.bridge()
        leaving.signal(signal.SIGTERM)
        await until(lambda: leaving.ended, 20)
        leaving.kill()

    async def stall(self) -> None:
        """It loses its leases without noticing, and comes back."""
        blow = self.blow("stopped", harms=True)
        self.bridges[0].signal(signal.SIGSTOP)
        await asyncio.sleep(self.bench.args.stall)
        self.bridges[0].signal(signal.SIGCONT)
        blow.over = time.time()
        self.bridges.append(self.bridges.pop(0))

    async def redis(self) -> None:
        self.blow("Redis SIGKILL", harms=False)
        self.broker.crash()
        await asyncio.sleep(1)
        await self.broker.start()

    async def both(self) -> None:
        """A bridge dies with all that it could not write."""
        blow = self.blow("Redis and a bridge SIGKILL", harms=True)
        self.broker.crash()
        await asyncio.sleep(0.5)
        blow.over = time.time()
        self.bridges.pop(0).kill()
        await self.broker.start()
        await self.bridge()

    # What is counted.

    def missing(self) -> int:
        wanted = [webhook_id for webhook_id, _ in self.published]
        return sum(target.missing(wanted) for target in self.targets)

    def arrived(self) -> int:
        """Deliveries, each counted once; also of events that Redis took without saying so."""
        return sum(len(target.accepted) for target in self.targets)

    def delays(self, begin: float, end: float) -> list[float]:
        """Seconds from XADD to the healthy receivers, of what was published between two Unix times."""
        healthy = [target for target in self.targets if target.fault is None]
        events = [(webhook_id, at) for webhook_id, at in self.published if begin <= at < end]
        return [
            target.accepted[webhook_id] - at
            for target in healthy
            for webhook_id, at in events
            if webhook_id in target.accepted
        ]

    def unexplained(self, target: Target) -> list[Puzzle]:
        """Duplicates of what was accepted when no bridge was about to die or to be stopped."""
        # Its 200 comes at once, and the attempt is over when the rest has not come in time.
        near = _NEAR + (TIMEOUT if target.fault == "drip body" else 0)
        found = []
        for webhook_id, again in target.again:
            first = target.accepted[webhook_id]
            if not any(
                blow.harms and blow.at - near <= first <= blow.over + _NEAR and blow.at <= again for blow in self.blows
            ):
                last = next((blow for blow in reversed(self.blows) if blow.at <= again), Blow("nothing", 0, 0, False))
                found.append(Puzzle(last.kind, target.fault, first - last.at, again - last.at))
        return found
