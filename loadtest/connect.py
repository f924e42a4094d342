"""What a connect costs when very many come at once, and what it costs when they leave."""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import quiet
from loadtest.rig.pair import measure_in_turn
from loadtest.rig.report import Column, Report, Target, ratio_target
from loadtest.rig.stats import Row, gateway_over_peers, medians, quantile, unharmed

ABOUT = "CPU of the server per connect, in a storm of them"
PEERS = ("bare", "nchan", "naive")
WITH_KEY, OPEN = "gateway, with a key", "gateway, open"
QUICK = ("--connections", "500")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--connections", type=int, default=10_000, help="connects in all; with --keys a sixteenth of them each time"
    )
    parser.add_argument("--at-once", type=int, default=500, help="connects under way at a time")
    parser.add_argument("--keys", action="store_true", help="the gateway open, and closed by an API key; no peers")
    parser.add_argument("--events", type=int, default=20, help="with --keys: events to all that are connected")
    parser.add_argument(
        "--pairs", type=int, default=24, help="with --keys: measurements of both in turn, in each round"
    )


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


async def run_keys(bench: Bench, args: argparse.Namespace) -> Report:
    """What a key costs: the closed gateway less the open one, pair by pair."""
    if not bench.chosen("keys", "idle"):
        raise RuntimeError("nothing to measure: " + "; ".join(bench.notes))
    pairs: list[tuple[Row, Row]] = []
    for _ in range(args.rounds):
        # Enough for the clock, and few enough for many pairs: one pair is off by 20 us and more, either way.
        each = max(1, args.connections // 16)
        pairs += await measure_in_turn(bench, each, args.at_once, args.events, args.pairs)
    rows = {OPEN: medians(still_open for still_open, _ in pairs), WITH_KEY: medians(closed for _, closed in pairs)}
    rows[OPEN]["lost"] = sum(still_open["lost"] for still_open, _ in pairs)
    rows[WITH_KEY]["lost"] = sum(closed["lost"] for _, closed in pairs)
    added = {
        key: [closed[key] - still_open[key] for still_open, closed in pairs]
        for key in ("cpu_us_per_connect", "cpu_us_per_delivery")
    }
    connect, delivery = (statistics.median(differences) for differences in added.values())
    # Of something that is nothing, no more can be seen than what two measurements of the same differ by.
    nothing = abs(delivery) <= 0.05 * rows[OPEN]["cpu_us_per_delivery"]
    text = f"{len(pairs)} pairs of {each:,} connects, the open and the closed gateway in turn on one core"
    low, high = (quantile(added["cpu_us_per_connect"], q) for q in (0.25, 0.75))
    return Report(
        name="connect",
        title="what a key costs, per connect and per delivery",
        load=f"{text}; {args.events} events to all that are connected.",
        columns=(
            Column("cpu_us_per_connect", "CPU per connect, µs"),
            Column("cpu_us_per_delivery", "per delivery, µs", 2),
        ),
        rows=rows,
        targets=[
            Target("D", "a key adds <= 15 µs of CPU per connect", f"{connect:+.1f} µs", connect <= 15),
            Target("D", "a key adds nothing per delivery (within 5 %)", f"{delivery:+.3f} µs", nothing),
        ],
        notes=[
            *bench.notes,
            f"Median of the differences; half of those per connect lie in {low:+.1f} to {high:+.1f} µs.",
        ],
        passed=unharmed(rows, "lost"),
    )


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    if args.keys:
        return await run_keys(bench, args)
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("idle")})
    ratios = gateway_over_peers(rows, "cpu_us_per_connect", "CPU per connect")
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
        ),
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("f", text, ratios, limits)],
        notes=bench.notes,
        chart=bars(ABOUT, "µs", {name: row["cpu_us_per_connect"] for name, row in rows.items()}),
    )
