"""What a connect costs when very many come at once, and what it costs when they leave."""

from __future__ import annotations

import argparse
import time
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import quiet
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, gateway_over_peers

ABOUT = "CPU of the server per connect, in a storm of them"
PEERS = ("bare", "nchan", "naive")
QUICK = ("--connections", "500")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=10_000, help="connects in all")
    parser.add_argument("--at-once", type=int, default=500, help="connects under way at a time")


async def measure(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    async with bench.server(name, heartbeat=120.0) as peer:
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
        bench.say(f"{name}: {args.connections} disconnects")
        gone = await quiet(peer)
        return {
            "cpu_us_per_connect": (connected - before) / args.connections * 1e6,
            "cpu_us_per_disconnect": (gone - connected) / args.connections * 1e6,
            "connects_per_s": args.connections / elapsed,
            "rss_mb_before": memory.rss / 2**20,
            "rss_mb_connected": grown.rss / 2**20,
            "rss_mb_after": peer.memory().rss / 2**20,
        }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("idle")})
    ratios = gateway_over_peers(rows, "cpu_us_per_connect", "CPU per connect")
    text = f"CPU per connect, storm of {args.connections:,} <= 1.4x a bare ASGI app under the same uvicorn"
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
        ),
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("f", text, ratios, {"gateway / bare, CPU per connect": ("<=", 1.4)})],
        notes=bench.notes,
        chart=bars(ABOUT, "µs", {name: row["cpu_us_per_connect"] for name, row in rows.items()}),
    )
