"""What those who are in notice of those who are not: the latency of subscribers while somebody tries unknown keys."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial

from loadtest.peers import Peer
from loadtest.rig import access
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import Load, first_event, no_garbage_collection, run_load
from loadtest.rig.process import ProcessTree
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, unharmed

ABOUT = "latency of subscribers while others come with bad keys"
QUICK = ("--subscribers", "50", "--rate", "200", "--seconds", "2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1000, help="connected with a good key")
    parser.add_argument("--events", type=float, default=50, help="events a second")
    parser.add_argument("--rate", type=float, default=2000, help="connections with a bad key a second")
    parser.add_argument("--prefix", default="gwk_", help="how a bad key begins; with another it does not look like one")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--seconds", type=float, default=8, help="length of each of the two measurements")
    parser.add_argument("--samplers", type=int, default=100, help="subscribers that measure latency")


async def start_flood(bench: Bench, peer: Peer, rate: float, prefix: str) -> ProcessTree:
    """Begin to try keys; returns at the first answer."""
    words = [peer.host, str(peer.port), peer.path(), str(rate), prefix]
    command = [sys.executable, "-m", "loadtest.rig.flood", *words]
    flood = ProcessTree(command, cores=bench.args.generator_cores, log=bench.folder / "flood.log")
    try:
        await flood.wait_until(lambda: "going" in flood.output())
    except BaseException:
        flood.stop()
        raise
    return flood


async def measure(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    load = Load(args.subscribers, args.events, args.seconds, args.frame, args.samplers)
    async with bench.server(name) as peer:
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
                    bench.say(f"{name}: the same, and {args.rate:g} bad keys/s")
                    flood = await start_flood(bench, peer, args.rate, args.prefix)
                    try:
                        during = await run_load(peer, fleet, publisher, load)
                        flood_cpu = flood.cpu()
                    finally:
                        flood.stop()
            finally:
                publisher.close()
    return row_of(before, during, json.loads(flood.output().splitlines()[-1]), flood_cpu)


def row_of(before: Row, during: Row, flood: Row, flood_cpu: float) -> Row:
    """Both measurements side by side, and what the flood got."""
    keys = ("p50_ms", "p99_ms", "server_cpu_percent", "generator_cpu_percent")
    row = {f"{key}_{when}": part[key] for key in keys for when, part in (("before", before), ("during", during))}
    return row | {
        "refused_per_s": flood["refused"] / flood["seconds"],
        "flood_cpu_percent": 100 * flood_cpu / flood["seconds"],
        "let_in": flood["other"],
        "unanswered": flood["failed"],
        "lost": before["lost"] + during["lost"],
    }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("keys")})
    row = rows["gateway"]
    p99, p50 = "p99 during / before", "p50 during / before"
    reached = "401 a second / asked for"
    ratios = {
        p50: row["p50_ms_during"] / row["p50_ms_before"],
        p99: row["p99_ms_during"] / row["p99_ms_before"],
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
            *(Column(f"{key}_{when}", f"{head}, {when}", n) for key, head, n in pairs for when in ("before", "during")),
            Column("refused_per_s", "401 a second", 0),
            Column("flood_cpu_percent", "flood CPU, %", 0),
            Column("let_in", "other answers", 0),
            Column("unanswered", "unanswered", 0),
            Column("lost", "lost", 0),
        ),
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("D", text, ratios, {p99: ("<=", 1.2), reached: (">=", 0.95)})],
        notes=[*bench.notes, "The flood shares the generator's cores: what it takes from the samplers is in the p99."],
        chart=bars(ABOUT, "p99, ms", {when: row[f"p99_ms_{when}"] for when in ("before", "during")}),
        passed=unharmed(rows, "lost", "let_in"),
    )
