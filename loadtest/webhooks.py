"""What the bridge delivers on one core, what it adds in time, and whether one that hangs holds up the others."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from functools import partial

import aiohttp

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.payload import payload
from loadtest.rig.process import ProcessTree
from loadtest.rig.publish import fill
from loadtest.rig.receiver import Receiver
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row, quantile
from loadtest.rig.wait import until

ABOUT = "signed deliveries a second on one core, and the time that the bridge adds"
PEERS = ()
QUICK = ("--events", "3000", "--singles", "50")
_BRIDGE = {
    "GATEWAY_BRIDGE": "true",
    "GATEWAY_WEBHOOK_ALLOW_HTTP": "true",
    "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=20_000, help="events to deliver at full speed")
    parser.add_argument("--singles", type=int, default=1000, help="events one at a time, for the latency")
    parser.add_argument("--frame", type=int, default=250, help="bytes of payload")
    parser.add_argument("--in-flight", type=int, default=64, help="max_in_flight of each endpoint")


async def _endpoint(peer: Peer, receiver: Receiver, **fields: object) -> None:
    async with aiohttp.ClientSession() as http:
        body = {"url": receiver.url, "events": ["load.*"], **fields}
        async with http.post(f"http://{peer.host}:{peer.port}/api/webhooks", json=body) as answer:
            if answer.status != 201:
                raise RuntimeError(await answer.text())


async def _commands(bench: Bench) -> int:
    """Commands that Redis has carried out, those inside scripts too; XADD and what only looks left out."""
    stats = await bench.broker.call("INFO", "commandstats")
    assert isinstance(stats, bytes)
    found = re.findall(rb"cmdstat_([a-z|]+):calls=([0-9]+)", stats)
    return sum(int(calls) for name, calls in found if name not in (b"xadd", b"info", b"xread", b"xinfo|stream"))


async def full_speed(bench: Bench, args: argparse.Namespace, delay: float) -> Row:
    """One endpoint, events as fast as it takes them."""
    receiver = await Receiver(delay).start()
    async with bench.server("gateway", env=_BRIDGE) as peer:
        await _endpoint(peer, receiver, max_in_flight=args.in_flight)
        count = args.events if not delay else min(args.events, int(args.in_flight / delay) * 5)
        bench.say(f"{count:,} events to a receiver of {delay * 1000:.0f} ms")
        publisher = await bench.broker.publisher()
        await fill(publisher, 20, args.frame)
        await until(lambda: len(receiver.seen) == 20, 30)
        commands, cpu, begun = await _commands(bench), peer.cpu(), time.monotonic()
        await fill(publisher, count, args.frame)
        await until(lambda: len(receiver.seen) >= count + 20, 120)
        elapsed, cpu = time.monotonic() - begun, peer.cpu() - cpu
        await asyncio.sleep(0.2)
        commands = await _commands(bench) - commands
        publisher.close()
    receiver.stop()
    return {
        "deliveries_per_s": count / elapsed,
        "cpu_us": cpu / count * 1e6,
        "commands": commands / count,
        "lost": count + 20 - len(receiver.seen),
        "duplicates": receiver.duplicates,
    }


async def bare(bench: Bench, args: argparse.Namespace) -> Row:
    """aiohttp alone, on the core of the server."""
    receiver = await Receiver().start()
    log = bench.folder / "posting.log"
    words = [receiver.url, str(args.events), str(args.in_flight), str(args.frame)]
    bench.say("a bare aiohttp loop")
    process = ProcessTree([sys.executable, "-m", "loadtest.rig.posting", *words], cores=args.server_cores, log=log)
    try:
        await until(lambda: "deliveries_per_s" in process.output(), 120)
        found: Row = json.loads(process.output().splitlines()[-1])
    finally:
        process.stop()
        receiver.stop()
    return {**found, "lost": args.events - len(receiver.seen), "duplicates": receiver.duplicates}


async def _latencies(bench: Bench, args: argparse.Namespace, receiver: Receiver) -> list[float]:
    """Seconds from before XADD to the request, one event at a time."""
    publisher = await bench.broker.publisher()
    found = []
    for number in range(args.singles):
        before, begun = len(receiver.seen), time.monotonic()
        publisher.send(payload(number, args.frame))
        # Not by looking again and again: that keeps a core busy, and Redis, which shares it, waits for its turn (4 ms).
        try:
            async with asyncio.timeout(10):
                while len(receiver.seen) == before:
                    receiver.came.clear()
                    await receiver.came.wait()
        except TimeoutError:
            break
        found.append(max(first for _, first in list(receiver.seen.values())[before:]) - begun)
        await asyncio.sleep(0.01)
    publisher.close()
    return found


async def idle(bench: Bench, args: argparse.Namespace, hanging: int) -> Row:
    """Ten endpoints, `hanging` of which never answer; what the time is for one of the others."""
    watched = await Receiver().start()
    others = [await Receiver(hangs=number < hanging).start() for number in range(9)]
    async with bench.server("gateway", env=_BRIDGE) as peer:
        for receiver in (watched, *others):
            await _endpoint(peer, receiver)
        bench.say(f"one event at a time, {hanging} of 10 endpoints hang")
        found = await _latencies(bench, args, watched)
    for receiver in (watched, *others):
        receiver.stop()
    return {
        "p50_ms": quantile(found, 0.5) * 1000,
        "p99_ms": quantile(found, 0.99) * 1000,
        "lost": args.singles - len(found),
        "duplicates": watched.duplicates,
    }


def _targets(rows: dict[str, Row]) -> list[Target]:
    speed, alone = rows["gateway, 0 ms"], rows["bare aiohttp"]
    share = speed["deliveries_per_s"] / alone["deliveries_per_s"]
    still, hung = rows["idle"], rows["idle, 1 of 10 hangs"]
    moved = hung["p99_ms"] / still["p99_ms"]
    return [
        Target(
            "w1",
            "webhooks: >= 4,000 deliveries/s on a core, >= 0.6x bare aiohttp",
            f"{speed['deliveries_per_s']:,.0f}, {share:.2f}x",
            speed["deliveries_per_s"] >= 4000 and share >= 0.6,
        ),
        Target(
            "w2",
            "webhooks: <= 2 Redis commands per delivery",
            f"{speed['commands']:.2f}",
            speed["commands"] <= 2,
        ),
        Target(
            "w3",
            "webhooks: added p50 <= 5 ms, p99 <= 25 ms when idle",
            f"{still['p50_ms']:.1f} and {still['p99_ms']:.1f} ms",
            still["p50_ms"] <= 5 and still["p99_ms"] <= 25,
        ),
        Target("w4", "webhooks: one that hangs moves the others' p99 by <= 1.2x", f"{moved:.2f}x", moved <= 1.2),
    ]


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare(
        {
            "gateway, 0 ms": partial(full_speed, bench, args, 0.0),
            "bare aiohttp": partial(bare, bench, args),
            "gateway, 50 ms": partial(full_speed, bench, args, 0.05),
            "gateway, 250 ms": partial(full_speed, bench, args, 0.25),
            "idle": partial(idle, bench, args, 0),
            "idle, 1 of 10 hangs": partial(idle, bench, args, 1),
        }
    )
    return Report(
        name="webhooks",
        title=ABOUT,
        load=f"{args.events:,} events of {args.frame} bytes, {args.in_flight} in flight; {args.singles} singly.",
        columns=(
            Column("deliveries_per_s", "deliveries/s", 0),
            Column("cpu_us", "CPU per delivery, µs", 0),
            Column("commands", "Redis commands per delivery", 2),
            Column("p50_ms", "p50, ms", 1),
            Column("p99_ms", "p99, ms", 1),
            Column("lost", "lost", 0),
            Column("duplicates", "duplicates", 0),
        ),
        rows=rows,
        targets=_targets(rows),
        notes=bench.notes,
        passed=all(row["lost"] == 0 for row in rows.values()),
    )
