"""What a receiver that is down costs: memory and retries while its backlog grows, and whether all arrives later."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import aiohttp

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.publish import Publisher, fill
from loadtest.rig.receiver import Receiver
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row
from loadtest.rig.wait import until

ABOUT = "memory and retries while one receiver is down, and what arrives when it is back"
PEERS = ()
QUICK = ("--dead", "5000", "--grow", "30000", "--retries", "1000", "--rate-limit", "2000", "--due", "8")
_ENV = {
    "GATEWAY_BRIDGE": "true",
    "GATEWAY_WEBHOOK_ALLOW_HTTP": "true",
    "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
    "GATEWAY_RETENTION_EVENTS": "0",
}
_STEPS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dead", type=int, default=100_000, help="events while the receiver is down, all delivered later"
    )
    parser.add_argument("--grow", type=int, default=1_000_000, help="events while the receiver is down, for the memory")
    parser.add_argument("--retries", type=int, default=100_000, help="deliveries that wait for another attempt at once")
    parser.add_argument("--rate-limit", type=float, default=2_500, help="of the endpoint that comes back, per second")
    parser.add_argument("--due", type=float, default=90, help="seconds after which those attempts are due")
    parser.add_argument("--frame", type=int, default=250, help="bytes of payload")
    parser.add_argument("--in-flight", type=int, default=64, help="max_in_flight of the endpoint")
    parser.add_argument("--drain", type=float, default=300, help="seconds to wait for the last delivery")


class Scene(NamedTuple):
    peer: Peer
    receiver: Receiver
    publisher: Publisher
    url: str
    """Of the endpoint in the API."""

    async def look(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as http, http.get(self.url) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def retries(self) -> int:
        return int((await self.look())["retries"])

    def rss(self) -> float:
        return self.peer.memory().rss / 2**20


@contextlib.asynccontextmanager
async def _scene(bench: Bench, args: argparse.Namespace, **fields: object) -> AsyncIterator[Scene]:
    receiver = await Receiver().start()
    try:
        async with bench.server("gateway", env=_ENV) as peer:
            api = f"http://{peer.host}:{peer.port}/api/webhooks"
            body = {"url": receiver.url, "max_in_flight": args.in_flight, **fields}
            async with aiohttp.ClientSession() as http, http.post(api, json=body) as answer:
                if answer.status != 201:
                    raise RuntimeError(await answer.text())
                made = await answer.json()
            publisher = await bench.broker.publisher()
            try:
                # The window of the process is full before anything is measured: it is not the bridge's.
                await fill(publisher, 25_000, args.frame)
                if not await until(lambda: len(receiver.seen) == 25_000, 60):
                    raise RuntimeError("the first events did not arrive")
                yield Scene(peer, receiver, publisher, f"{api}/{made['id']}")
            finally:
                publisher.close()
    finally:
        receiver.stop()


async def _arrived(scene: Scene, events: int, seconds: float) -> Row:
    begun = time.monotonic()
    before = len(scene.receiver.seen)
    await until(lambda: len(scene.receiver.seen) >= events, seconds)
    elapsed = time.monotonic() - begun
    return {
        "drained_s": elapsed,
        "per_s": (len(scene.receiver.seen) - before) / elapsed,
        "lost": events - len(scene.receiver.seen),
        "duplicates": scene.receiver.duplicates,
    }


async def _publish(scene: Scene, args: argparse.Namespace, events: int) -> list[float]:
    """In ten steps; the memory at the end of each, MB."""
    found = []
    for number in range(_STEPS):
        await fill(scene.publisher, events // _STEPS, args.frame, first=number * events // _STEPS)
        await asyncio.sleep(0.5)
        found.append(scene.rss())
    return found


async def dead(bench: Bench, args: argparse.Namespace, limit: float | None) -> Row:
    """The breaker opens; then the receiver is back, and gets everything, no faster than it may."""
    async with _scene(bench, args, rate_limit=limit, retry=[0, *[5] * 60]) as scene:
        before = scene.rss()
        scene.receiver.refuses = lambda: True
        bench.say(f"{args.dead:,} events for a receiver that is down")
        sizes = await _publish(scene, args, args.dead)
        retries, refused = await scene.retries(), scene.receiver.refused
        scene.receiver.refuses = lambda: False
        bench.say("it is back")
        await until(lambda: len(scene.receiver.seen) > 25_000, 60)  # the next probe
        row = await _arrived(scene, 25_000 + args.dead, args.drain)
        return {
            "events": args.dead,
            "before_mb": before,
            "tenth_mb": sizes[0],
            "most_mb": max(*sizes, scene.rss()),
            "retries": retries,
            "attempts": refused,
            **row,
        }


async def grow(bench: Bench, args: argparse.Namespace) -> Row:
    """A backlog that nobody takes."""
    async with _scene(bench, args) as scene:
        scene.receiver.refuses = lambda: True
        await fill(scene.publisher, 1000, args.frame)
        await until(lambda: scene.receiver.refused >= 10, 30)
        before = scene.rss()
        bench.say(f"a backlog of {args.grow:,} events")
        sizes = await _publish(scene, args, args.grow)
        found = {"events": args.grow, "before_mb": before, "tenth_mb": sizes[0], "most_mb": max(sizes)}
        return {**found, "retries": await scene.retries(), "attempts": scene.receiver.refused}


async def pending(bench: Bench, args: argparse.Namespace) -> Row:
    """Three of four first attempts fail, one does not, so that the breaker stays closed; then all are due at once."""
    async with _scene(bench, args, retry=[0, args.due, *[1] * 20]) as scene:
        before = scene.rss()
        number = count(1)
        scene.receiver.refuses = lambda: next(number) % 4 != 0
        events = args.retries * 4 // 3
        bench.say(f"{events:,} events, three of four are refused once")
        begun = time.monotonic()
        await fill(scene.publisher, events, args.frame)
        await until(lambda: scene.receiver.refused + len(scene.receiver.seen) >= 25_000 + events, args.due)
        await asyncio.sleep(1)
        retries, most = await scene.retries(), scene.rss()
        ahead = scene.receiver.refused >= args.retries and time.monotonic() - begun < args.due
        scene.receiver.refuses = lambda: False
        scene.receiver.delay = 0.005  # so that they meet
        bench.say(f"{retries:,} retries wait")
        row = await _arrived(scene, 25_000 + events, args.due + args.drain)
        if not ahead:
            bench.notes.append("some retries were due before all events had been tried: --due is too short")
        sizes = {"before_mb": before, "most_mb": max(most, scene.rss())}
        flight = {"attempts": scene.receiver.refused, "most_in_flight": scene.receiver.most_busy}
        return {"events": events, **sizes, "retries": retries, **flight, **row}


def _targets(rows: dict[str, Row]) -> list[Target]:
    grown, waiting, back = rows["grows"], rows["retries"], rows["down, then back"]
    more = grown["most_mb"] - grown["tenth_mb"]
    lost = sum(row.get("lost", 0) for row in rows.values())
    return [
        Target(
            "w6",
            "webhooks: memory is flat while a backlog grows (<= 5 % from a tenth of it to all)",
            f"{grown['tenth_mb']:.0f} MB, {more:+.1f} MB",
            more <= 0.05 * grown["tenth_mb"],
        ),
        Target(
            "w7",
            "webhooks: a receiver that is down leaves few retries, and gets everything afterwards",
            f"{back['retries']:.0f} retries, {lost:.0f} lost",
            back["retries"] <= 200 and lost == 0,
        ),
        Target(
            "w8",
            "webhooks: retries that wait cost no memory here (<= 20 % more)",
            f"{waiting['retries']:,.0f} retries, {waiting['before_mb']:.0f} -> {waiting['most_mb']:.0f} MB",
            waiting["most_mb"] <= 1.2 * waiting["before_mb"],
        ),
    ]


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    limited = f"the same, {args.rate_limit:g}/s"
    rows = await bench.compare(
        {
            "down, then back": partial(dead, bench, args, None),
            limited: partial(dead, bench, args, args.rate_limit),
            "grows": partial(grow, bench, args),
            "retries": partial(pending, bench, args),
        }
    )
    kept = rows[limited]["per_s"] <= 1.05 * args.rate_limit
    targets = _targets(rows)
    return Report(
        name="backlog",
        title=ABOUT,
        load=(
            f"{args.dead:,} events for a receiver that is down and comes back; {args.grow:,} for one that does not; "
            f"{args.retries:,} retries at once. {args.frame} bytes each."
        ),
        columns=(
            Column("events", "events", 0),
            Column("before_mb", "RSS before, MB", 1),
            Column("tenth_mb", "RSS at a tenth, MB", 1),
            Column("most_mb", "RSS at most, MB", 1),
            Column("retries", "retries waiting", 0),
            Column("attempts", "attempts refused", 0),
            Column("drained_s", "all there after, s", 1),
            Column("per_s", "delivered per s", 0),
            Column("most_in_flight", "most in flight", 0),
            Column("lost", "lost", 0),
            Column("duplicates", "duplicates", 0),
        ),
        rows=rows,
        targets=targets,
        notes=bench.notes if kept else [*bench.notes, "the rate limit was not kept"],
        passed=kept
        and rows["retries"]["most_in_flight"] <= args.in_flight
        and all(row.get("lost", 0) == 0 for row in rows.values()),
    )
