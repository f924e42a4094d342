"""What a connect costs when very many come at once, and what it costs when they leave."""

from __future__ import annotations

import argparse
import time
from functools import partial

from loadtest.peers import Peer
from loadtest.rig import access
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import Load, first_event, quiet, run_load
from loadtest.rig.report import Column, Report, Target, ratio_target
from loadtest.rig.stats import Row, gateway_over_peers, unharmed

ABOUT = "CPU of the server per connect, in a storm of them"
PEERS = ("bare", "nchan", "naive")
WITH_KEY, OPEN = "gateway, with a key", "gateway, open"
QUICK = ("--connections", "500")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=10_000, help="connects in all")
    parser.add_argument("--at-once", type=int, default=500, help="connects under way at a time")
    parser.add_argument("--keys", action="store_true", help="the gateway open, and closed by an API key; no peers")
    parser.add_argument("--events", type=int, default=20, help="with --keys: events to all that are connected")


async def deliveries(peer: Peer, fleet: Fleet, events: int) -> Row:
    """What it costs to deliver `events` to those who are connected."""
    publisher = await peer.publisher()
    try:
        await first_event(peer, fleet, publisher, 150)
        load = Load(len(fleet.members), rate=5, seconds=events / 5, frame=150)
        row = await run_load(peer, fleet, publisher, load)
    finally:
        publisher.close()
    return {key: row[key] for key in ("cpu_us_per_delivery", "lost")}


async def measure(bench: Bench, args: argparse.Namespace, name: str, key: bool = False) -> Row:
    async with bench.server(name, heartbeat=120.0) as peer:
        if key:
            await access.close(peer)
        with Fleet(peer.host, peer.port) as few:
            await few.open([peer.request()] * 50)
        before, memory = await quiet(peer), peer.memory()
        with Fleet(peer.host, peer.port) as fleet:
            bench.say(f"{name}: {args.connections} connects")
            start = time.monotonic()
            await fleet.open([peer.request()] * args.connections, at_once=args.at_once)
            elapsed = time.monotonic() - start
            connected = await quiet(peer)
            grown = peer.memory()
            delivered = await deliveries(peer, fleet, args.events) if args.keys else {}
            before_end = await quiet(peer) if args.keys else connected
        bench.say(f"{name}: {args.connections} disconnects")
        gone = await quiet(peer)
        return {
            "cpu_us_per_connect": (connected - before) / args.connections * 1e6,
            "cpu_us_per_disconnect": (gone - before_end) / args.connections * 1e6,
            "connects_per_s": args.connections / elapsed,
            "rss_mb_before": memory.rss / 2**20,
            "rss_mb_connected": grown.rss / 2**20,
            "rss_mb_after": peer.memory().rss / 2**20,
            **delivered,
        }


def key_targets(rows: dict[str, Row]) -> list[Target]:
    """What a key adds: the closed gateway less the open one."""
    closed, still_open = rows[WITH_KEY], rows[OPEN]
    connect = closed["cpu_us_per_connect"] - still_open["cpu_us_per_connect"]
    delivery = closed["cpu_us_per_delivery"] - still_open["cpu_us_per_delivery"]
    # A run too small for the CPU clock's steps has measured nothing.
    share = delivery / still_open["cpu_us_per_delivery"] if still_open["cpu_us_per_delivery"] else None
    # Of something that is nothing, no more can be seen than what two runs differ by.
    nothing = None if share is None else share <= 0.05
    return [
        Target("D", "a key adds <= 15 µs of CPU per connect", f"{connect:+.1f} µs", connect <= 15),
        Target("D", "a key adds nothing per delivery (within 5 %)", f"{delivery:+.3f} µs", nothing),
    ]


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    if args.keys:
        pairs = ((OPEN, False), (WITH_KEY, True)) if bench.chosen("keys", "idle") else ()
        cases = {label: partial(measure, bench, args, "gateway", key) for label, key in pairs}
    else:
        cases = {name: partial(measure, bench, args, name) for name in bench.chosen("idle")}
    rows = await bench.compare(cases)
    ratios = {} if args.keys else gateway_over_peers(rows, "cpu_us_per_connect", "CPU per connect")
    text = f"CPU per connect, storm of {args.connections:,} <= 1.4x a bare ASGI app under the same uvicorn"
    limits = {"gateway / bare, CPU per connect": ("<=", 1.4)}
    return Report(
        name="connect",
        title=ABOUT,
        load=f"{args.connections:,} connects, {args.at_once} under way at a time.",
        columns=(
            Column("cpu_us_per_connect", "CPU per connect, µs", 0),
            Column("cpu_us_per_disconnect", "CPU per disconnect, µs", 0),
            Column("connects_per_s", "connects/s", 0),
            Column("rss_mb_before", "RSS before, MB"),
            Column("rss_mb_connected", "RSS connected, MB"),
            Column("rss_mb_after", "RSS after, MB"),
            *([Column("cpu_us_per_delivery", "CPU per delivery, µs", 2)] if args.keys else []),
        ),
        rows=rows,
        ratios=ratios,
        targets=key_targets(rows) if args.keys else [ratio_target("f", text, ratios, limits)],
        notes=bench.notes,
        chart=bars(ABOUT, "µs", {name: row["cpu_us_per_connect"] for name, row in rows.items()}),
        passed=unharmed(rows, "lost"),
    )
