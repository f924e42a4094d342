"""What connections cost that only wait: memory each, and CPU for their heartbeats."""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row, unharmed

ABOUT = "memory and CPU of connections that wait"
PEERS = ("bare", "nchan", "naive")
QUICK = ("--connections", "500", "--seconds", "3", "--heartbeat", "1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=10_000, help="idle connections")
    parser.add_argument("--heartbeat", type=float, default=15, help="seconds between heartbeats")
    parser.add_argument("--seconds", type=float, default=30, help="length of the measurement")
    parser.add_argument("--at-once", type=int, default=200, help="connects under way at a time")


async def measure(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    async with bench.server(name, heartbeat=args.heartbeat) as peer:
        with Fleet(peer.host, peer.port) as few:
            # What the first connections load and allocate belongs to the process, not to a connection.
            await few.open([peer.request()] * 50)
        await asyncio.sleep(0.5)
        before = peer.memory()
        with Fleet(peer.host, peer.port) as fleet:
            bench.say(f"{name}: connecting {args.connections}")
            await fleet.open([peer.request()] * args.connections, at_once=args.at_once)
            await asyncio.sleep(1.0)
            bench.say(f"{name}: {args.connections} idle connections for {args.seconds:g} s")
            cpu, start, volume = peer.cpu(), time.monotonic(), fleet.bytes()
            await asyncio.sleep(args.seconds)
            elapsed, after = time.monotonic() - start, peer.memory()
            return {
                "rss_kb_per_connection": (after.rss - before.rss) / args.connections / 1024,
                "pss_kb_per_connection": (after.pss - before.pss) / args.connections / 1024,
                "cpu_percent": 100 * (peer.cpu() - cpu) / elapsed,
                "heartbeat_bytes": (fleet.bytes() - volume) / args.connections,
                "rss_mb": after.rss / 2**20,
                "lost_connections": fleet.lost_connections(),
            }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("idle")})
    return Report(
        name="idle",
        title=ABOUT,
        load=f"{args.connections:,} connections, heartbeat every {args.heartbeat:g} s, watched for {args.seconds:g} s.",
        columns=(
            Column("rss_kb_per_connection", "RSS per connection, KB", 2),
            Column("pss_kb_per_connection", "PSS per connection, KB", 2),
            Column("cpu_percent", "CPU, % of a core", 2),
            Column("heartbeat_bytes", "bytes received each"),
            Column("rss_mb", "RSS of the server, MB"),
            Column("lost_connections", "connections lost", 0),
        ),
        rows=rows,
        targets=targets(rows, args.connections),
        notes=[*bench.notes, "bare sends no heartbeats."],
        chart=bars("RSS per idle connection", "KB", {name: row["rss_kb_per_connection"] for name, row in rows.items()}),
        passed=unharmed(rows, "lost_connections"),
    )


def targets(rows: dict[str, Row], connections: int) -> list[Target]:
    memory = f"RSS per idle connection at {connections:,} <= 12 KB"
    cpu = f"CPU for {connections:,} idle connections with heartbeats <= 3 % of a core above a bare ASGI app's"
    if "gateway" not in rows:
        return [Target("d", memory, "not measured", None), Target("e", cpu, "not measured", None)]
    each, used = rows["gateway"]["rss_kb_per_connection"], rows["gateway"]["cpu_percent"]
    found = [Target("d", memory, f"{each:.1f} KB", each <= 12)]
    if "bare" not in rows:
        return [*found, Target("e", cpu, f"{used:.2f} %, bare not measured", None)]
    above = used - rows["bare"]["cpu_percent"]
    return [*found, Target("e", cpu, f"{above:.2f} % above", above <= 3)]
