"""Is every event delivered while bridges are killed, Redis goes down, and receivers do their worst, all at once?"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

import aiohttp
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from loadtest import peers
from loadtest.peers import Site
from loadtest.rig.bench import Bench
from loadtest.rig.broker import Broker
from loadtest.rig.hostile import FAULTS, Target, certificate
from loadtest.rig.report import Column, Report
from loadtest.rig.report import Target as Goal
from loadtest.rig.scene import TIMEOUT, Field
from loadtest.rig.stats import Row, quantile
from loadtest.rig.wait import until

ABOUT = "no event lost and every duplicate explained, while everything fails that can"
PEERS = ()
QUICK = ("--events", "600", "--endpoints", "14", "--rate", "40", "--every", "2.5", "--stall", "10")
_BATCH: Final = 5
_IN_TIME: Final = 15.0
"""Seconds in which a shard has moved (DESIGN.md, flow 3)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=20_000, help="events, each for every endpoint")
    parser.add_argument("--endpoints", type=int, default=20, help=f"{len(FAULTS)} that misbehave, the others healthy")
    parser.add_argument("--rate", type=float, default=100, help="events a second")
    parser.add_argument("--every", type=float, default=4, help="seconds between two blows")
    parser.add_argument("--stall", type=float, default=12, help="seconds for which a bridge is stopped, at one blow")
    parser.add_argument("--calm", type=float, default=0.1, help="share of the events published before the first blow")
    parser.add_argument("--drain", type=float, default=60, help="seconds without any arrival after which it is over")
    parser.add_argument("--seed", type=int, default=1)


async def _publish(scene: Field, args: argparse.Namespace) -> None:
    """`--events` that Redis acknowledges; what it may or may not have taken is not counted, and not missed."""
    client = redis.asyncio.Redis(port=scene.broker.port, retry=Retry(NoBackoff(), 0), socket_timeout=2)
    start, skipped = time.monotonic(), 0
    while len(scene.published) < args.events:
        pipe = client.pipeline(transaction=False)
        for number in range(_BATCH):
            pipe.xadd("events", {"type": "load.tick", "data": f'{{"n":{len(scene.published) + number}}}'})
        try:
            found = [entry.decode() for entry in await pipe.execute()]
            scene.published += [(f"msg_events_{it}".encode(), int(it.split("-")[0]) / 1000) for it in found]
        except (redis.RedisError, OSError):
            skipped += _BATCH
        due = start + (len(scene.published) + skipped) / args.rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await client.aclose()


async def _hit(scene: Field, args: argparse.Namespace, publishing: asyncio.Task[None]) -> None:
    """Blows in turn, as long as events are published, and each kind at least once."""
    turn: list[Callable[[], Awaitable[None]]] = [
        scene.kill, scene.redis, scene.kill, scene.leave, scene.both, scene.kill, scene.stall
    ]  # fmt: skip
    await until(lambda: len(scene.published) >= args.calm * args.events, 600)
    number = 0
    while number < len(turn) or not publishing.done():
        await asyncio.sleep(args.every)
        await turn[number % len(turn)]()
        number += 1


async def _enable(scene: Field) -> None:
    """The operator, who switches on again what a 410 has switched off."""
    url = f"http://{scene.api.host}:{scene.api.port}/api/webhooks"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http:
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, KeyError, ValueError):
                async with http.get(url) as answer:
                    found = (await answer.json())["webhooks"]
                for off in [it["id"] for it in found if not it["active"]]:
                    async with http.post(f"{url}/{off}/enable") as answer:
                        scene.enabled += answer.status == 200


@contextlib.asynccontextmanager
async def _scene(bench: Bench, args: argparse.Namespace) -> AsyncIterator[Field]:
    luck = random.Random(args.seed)
    context, authority = certificate(bench.folder)
    kinds = [*FAULTS, *[None] * max(1, args.endpoints - len(FAULTS))]
    env = {
        "GATEWAY_WEBHOOK_ALLOW_HTTP": "true",
        "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
        "GATEWAY_WEBHOOK_CA_FILE": str(authority),
    }
    folder = bench.folder / f"fire{time.time_ns()}"
    folder.mkdir()
    broker = Broker(folder, args.generator_cores, durable=True)
    api = peers.load("gateway")(Site(bench.folder, args.server_cores, broker), bench.options(env=env))
    scene = Field(bench, broker, api, [Target(kind, luck, context) for kind in kinds], env)
    try:
        await broker.start()
        await api.start()
        async with aiohttp.ClientSession() as http:
            for target in scene.targets:
                body = {"url": (await target.start()).url, "timeout": TIMEOUT, "retry": [0, *[1] * 63]}
                async with http.post(f"http://{api.host}:{api.port}/api/webhooks", json=body) as answer:
                    if answer.status != 201:
                        raise RuntimeError(await answer.text())
        yield scene
    finally:
        for process in scene.bridges:
            process.stop(0.1)
        api.stop()
        broker.stop()
        for target in scene.targets:
            target.stop()


async def measure(bench: Bench, args: argparse.Namespace) -> Row:
    async with _scene(bench, args) as scene:
        await scene.bridge()
        await scene.bridge()
        await asyncio.sleep(3)  # they share the endpoints
        operator = asyncio.create_task(_enable(scene))
        publishing = asyncio.create_task(_publish(scene, args))
        begun = time.time()
        await _hit(scene, args, publishing)
        await publishing
        for target in scene.targets:
            target.heal()
        bench.say("healed; waiting for the last delivery")
        healed = time.monotonic()
        while (arrived := scene.arrived()) < len(scene.targets) * len(scene.published):
            # As long as something arrives nothing is lost yet.
            if not await until(lambda before=arrived: scene.arrived() > before, args.drain, every=0.25):  # type: ignore[misc]
                break
        await until(lambda: not scene.missing(), args.drain, every=1)
        drained = time.monotonic() - healed
        await asyncio.sleep(2)  # what comes twice comes late
        operator.cancel()
        return _row(scene, begun, drained)


def _row(scene: Field, begun: float, drained: float) -> Row:
    first = scene.blows[0].at
    before, during = scene.delays(begun, first), scene.delays(first, time.time())
    kinds = [blow.kind for blow in scene.blows]
    puzzles = [puzzle for target in scene.targets for puzzle in scene.unexplained(target)]
    unexplained = [puzzle.kind for puzzle in puzzles]
    scene.bench.notes += [
        f"unexplained after {it.kind}: {it.fault or 'healthy'}, {it.first:+.2f} s, again {it.again:+.2f} s"
        for it in puzzles[:40]
    ]
    row: Row = {
        "events": len(scene.published),
        "deliveries": len(scene.published) * len(scene.targets),
        "lost": scene.missing(),
        "duplicates": sum(len(target.again) for target in scene.targets),
        "unexplained": len(unexplained),
        "blows": len(scene.blows),
        "misbehaved": sum(target.misbehaved for target in scene.targets),
        "followed": sum(target.followed for target in scene.targets),
        "enabled": scene.enabled,
        "calm_p99_ms": quantile(before, 0.99) * 1000,
        "p50_ms": quantile(during, 0.5) * 1000,
        "p99_ms": quantile(during, 0.99) * 1000,
        "max_s": max(during, default=float("nan")),
        "drained_s": drained,
    }
    row |= {f"blows: {kind}": kinds.count(kind) for kind in dict.fromkeys(kinds)}
    wanted = [webhook_id for webhook_id, _ in scene.published]
    row |= {f"lost: {it.fault}": it.missing(wanted) for it in scene.targets if it.missing(wanted)}
    row |= {f"unexplained after: {kind}": unexplained.count(kind) for kind in dict.fromkeys(unexplained)}
    row |= {f"misbehaved: {it.fault}": it.misbehaved for it in scene.targets if it.fault is not None}
    return row


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({"gateway": partial(measure, bench, args)})
    row = rows["gateway"]
    idle = [name for name, count in row.items() if name.startswith("misbehaved: ") and not count]
    lossless = row["lost"] == row["followed"] == 0
    return Report(
        name="fire",
        title=ABOUT,
        load=(
            f"{args.events:,} events for each of {args.endpoints} endpoints, {len(FAULTS)} of which misbehave; "
            f"a blow every {args.every:g} s."
        ),
        columns=(
            Column("deliveries", "deliveries", 0),
            Column("lost", "lost", 0),
            Column("duplicates", "duplicates", 0),
            Column("unexplained", "of these unexplained", 0),
            Column("blows", "blows", 0),
            Column("misbehaved", "requests treated badly", 0),
            Column("calm_p99_ms", "healthy p99 before, ms", 0),
            Column("p50_ms", "healthy p50 under fire, ms", 0),
            Column("p99_ms", "healthy p99 under fire, ms", 0),
            Column("max_s", "healthy max, s", 1),
            Column("drained_s", "all there after, s", 1),
        ),
        rows=rows,
        targets=[
            Goal(
                "w5",
                "webhooks: under fire nothing is lost, and every duplicate was in flight or not yet committed",
                f"{row['lost']:.0f} lost, {row['duplicates']:.0f} twice, {row['unexplained']:.0f} unexplained",
                lossless and not row["unexplained"],
            )
        ],
        notes=[*bench.notes, *(f"nothing was {name}" for name in idle)],
        passed=lossless and not idle,
    )
