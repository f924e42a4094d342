"""What those who are in notice of those who are not: the latency of subscribers while somebody tries unknown keys."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial

from loadtest.rig import access
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import Load, first_event, no_garbage_collection, run_load
from loadtest.rig.process import ProcessTree
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, unharmed

ABOUT = "latency of subscribers while others come with bad keys"
WHEN = ("before", "beside", "during")
QUICK = ("--subscribers", "50", "--rate", "200", "--seconds", "2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1000, help="connected with a good key")
    parser.add_argument("--events", type=float, default=50, help="events a second")
    parser.add_argument("--rate", type=float, default=2000, help="connections with a bad key a second")
    parser.add_argument("--prefix", default="gwk_", help="how a bad key begins; with another it does not look like one")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--seconds", type=float, default=8, help="length of each of the three measurements")
    parser.add_argument("--samplers", type=int, default=100, help="subscribers that measure latency")


@contextlib.asynccontextmanager
async def flooded(bench: Bench, port: int, path: str, args: argparse.Namespace) -> AsyncIterator[Callable[[], Row]]:
    """Somebody tries keys at `port`, from the first answer on; afterwards the callable tells what came of it."""
    words = ["127.0.0.1", str(port), path, str(args.rate), args.prefix]
    command = [sys.executable, "-m", "loadtest.rig.flood", *words]
    flood = ProcessTree(command, cores=bench.args.generator_cores, log=bench.folder / "flood.log")
    cpu = 0.0

    def counts() -> Row:
        found = json.loads(flood.output().splitlines()[-1])
        return {**found, "cpu": cpu}

    try:
        await flood.wait_until(lambda: "going" in flood.output())
        yield counts
        cpu = flood.cpu()
    finally:
        flood.stop()


@contextlib.asynccontextmanager
async def refuser(bench: Bench) -> AsyncIterator[int]:
    """The port of the cheapest server that refuses, on the cores of the server under test."""
    command = [sys.executable, "-m", "loadtest.rig.refuser"]
    process = ProcessTree(command, cores=bench.args.server_cores, log=bench.folder / "refuser.log")
    try:
        await process.wait_until(lambda: process.output().endswith("\n"))
        yield int(process.output())
    finally:
        process.stop()


async def measure(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    load = Load(args.subscribers, args.events, args.seconds, args.frame, args.samplers)
    async with bench.server(name) as peer, refuser(bench) as elsewhere:
        await access.close(peer)
        publisher = await peer.publisher()
        with Fleet(peer.host, peer.port) as fleet:
            try:
                await fleet.open([peer.request()] * load.subscribers, samplers=load.samplers)
                await first_event(peer, fleet, publisher, peer.size(load.frame))
                await run_load(peer, fleet, publisher, replace(load, seconds=load.warmup))
                with no_garbage_collection():
                    bench.say(f"{name}: {load.subscribers} subscribers")
                    before = await run_load(peer, fleet, publisher, load)
                    bench.say(f"{name}: the same, and {args.rate:g} bad keys/s for somebody else")
                    async with flooded(bench, elsewhere, "/", args):
                        beside = await run_load(peer, fleet, publisher, load)
                    bench.say(f"{name}: the same, and {args.rate:g} bad keys/s")
                    async with flooded(bench, peer.port, peer.path(), args) as counts:
                        during = await run_load(peer, fleet, publisher, load)
            finally:
                publisher.close()
    return row_of({"before": before, "beside": beside, "during": during}, counts())


def row_of(parts: Mapping[str, Row], flood: Row) -> Row:
    """The measurements side by side, and what the flood got."""
    keys = ("p50_ms", "p99_ms", "server_cpu_percent", "generator_cpu_percent")
    row = {f"{key}_{when}": part[key] for key in keys for when, part in parts.items()}
    return row | {
        "refused_per_s": flood["refused"] / flood["seconds"],
        "flood_cpu_percent": 100 * flood["cpu"] / flood["seconds"],
        "let_in": flood["other"],
        "unanswered": flood["failed"],
        "lost": sum(part["lost"] for part in parts.values()),
    }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("keys")})
    row = rows["gateway"]
    p99, p50 = "p99 during / before", "p50 during / before"
    beside = "p99 while others are flooded / before"
    reached = "refusals a second / asked for"
    ratios = {
        p50: row["p50_ms_during"] / row["p50_ms_before"],
        p99: row["p99_ms_during"] / row["p99_ms_before"],
        beside: row["p99_ms_beside"] / row["p99_ms_before"],
        reached: row["refused_per_s"] / args.rate,
    }
    text = f"{args.rate:,.0f} bad keys a second move the p99 of subscribers by <= 1.2x"
    pairs = [("p50_ms", "p50, ms", 2), ("p99_ms", "p99, ms", 2)]
    pairs += [("server_cpu_percent", "server CPU, %", 0), ("generator_cpu_percent", "generator CPU, %", 0)]
    return Report(
        name="abuse",
        title=ABOUT,
        load=f"{args.subscribers:,} subscribers with a key, {args.events:g} events/s; {args.rate:,.0f} bad keys/s.",
        columns=(
            *(Column(f"{key}_{when}", f"{head}, {when}", n) for key, head, n in pairs for when in WHEN),
            Column("refused_per_s", "refusals a second", 0),
            Column("flood_cpu_percent", "flood CPU, %", 0),
            Column("let_in", "other answers", 0),
            Column("unanswered", "unanswered", 0),
            Column("lost", "lost", 0),
        ),
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("D", text, ratios, {p99: ("<=", 1.2), reached: (">=", 0.95)})],
        notes=[
            *bench.notes,
            "Beside: the flood goes to another process on the server's core, the cheapest that refuses. What that does "
            "to the p99 is the machine's: the flood shares the generator's core, and connections cost the kernel.",
        ],
        chart=bars(ABOUT, "p99, ms", {when: row[f"p99_ms_{when}"] for when in WHEN}),
        passed=unharmed(rows, "lost", "let_in"),
    )
