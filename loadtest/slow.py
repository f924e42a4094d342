"""Some readers stall for a while and then read on: do the others notice, and do the stalled get everything?"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import replace
from functools import partial

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import Load, first_event, no_garbage_collection, run_load
from loadtest.rig.publish import Publisher
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row
from loadtest.rig.wait import until

ABOUT = "some readers stall and then read on"
PEERS = ("nchan",)
QUICK = ("--readers", "100", "--stalled", "10", "--stall", "2", "--seconds", "2", "--frame", "4000")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readers", type=int, default=1000, help="connections in all")
    parser.add_argument("--stalled", type=int, default=100, help="of these, how many stall")
    parser.add_argument("--stall", type=float, default=20, help="seconds for which they read nothing")
    parser.add_argument("--seconds", type=float, default=10, help="length of the measurement before, without a stall")
    parser.add_argument("--rate", type=float, default=50, help="events a second")
    parser.add_argument("--frame", type=int, default=1500, help="bytes of a frame on the wire")
    parser.add_argument("--receive-buffer", type=int, default=4096, help="SO_RCVBUF of the readers that stall")
    parser.add_argument("--catch-up", type=float, default=60, help="seconds to wait for the stalled to have everything")


async def measure(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    async with bench.server(name) as peer:
        publisher = await peer.publisher()
        try:
            with Fleet(peer.host, peer.port) as fleet, Fleet(peer.host, peer.port, args.receive_buffer) as stalled:
                await fleet.open([peer.request()] * (args.readers - args.stalled), samplers=100)
                await stalled.open([peer.request()] * args.stalled)
                await first_event(peer, fleet, publisher, peer.size(args.frame))
                await until(lambda: min(stalled.counts()) >= 1, 10)
                with no_garbage_collection():
                    return await stall(bench, args, peer, fleet, stalled, publisher)
        finally:
            publisher.close()


async def stall(
    bench: Bench, args: argparse.Namespace, peer: Peer, fleet: Fleet, stalled: Fleet, publisher: Publisher
) -> Row:
    """Measure the others without and with the stall, then let the stalled read on."""
    load = Load(args.readers - args.stalled, args.rate, args.seconds, args.frame)
    bench.say(f"{peer.name}: {args.readers} readers, all reading")
    before = await run_load(peer, fleet, publisher, load)
    memory = peer.memory()
    bench.say(f"{peer.name}: {args.stalled} of {args.readers} readers stall for {args.stall:g} s")
    for member in stalled.members:
        if member.transport is not None:
            member.transport.pause_reading()
    during = await run_load(peer, fleet, publisher, replace(load, seconds=args.stall))
    grown = peer.memory().rss - memory.rss
    bench.say(f"{peer.name}: the stalled read on")
    for member in stalled.members:
        if member.transport is not None and member.error is None:
            member.transport.resume_reading()
    start = asyncio.get_running_loop().time()
    await until(lambda: min(stalled.counts()) >= publisher.sent, args.catch_up)
    return {
        "p99_before_ms": before["p99_ms"],
        "p99_during_ms": during["p99_ms"],
        "p50_during_ms": during["p50_ms"],
        "lost": before["lost"] + during["lost"],
        "stalled_complete": sum(count == publisher.sent for count in stalled.counts()),
        "stalled_dropped": stalled.lost_connections(),
        "stalled_lost": sum(max(0, publisher.sent - count) for count in stalled.counts()),
        "catch_up_s": asyncio.get_running_loop().time() - start,
        "rss_growth_mb": grown / 2**20,
        "rss_growth_kb_each": grown / 1024 / args.stalled,
        "behind_kb_each": during["bytes_per_delivery"] * args.rate * args.stall / 1024,
        "after_mb": peer.memory().rss / 2**20,
    }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(measure, bench, args, name) for name in bench.chosen("fanout")})
    text = (
        f"{args.stalled} of {args.readers:,} readers stall {args.stall:g} s: others' p99 <= 1.2x, all stalled complete"
    )
    target = Target("j", text, "not measured", None)
    if "gateway" in rows:
        ours = rows["gateway"]
        slower = ours["p99_during_ms"] / ours["p99_before_ms"]
        measured = f"p99 {slower:.2f}x, RSS +{ours['rss_growth_mb']:.1f} MB, "
        measured += f"{ours['stalled_complete']:.0f} of {args.stalled} complete"
        target = Target("j", text, measured, slower <= 1.2 and ours["stalled_complete"] == args.stalled)
    return Report(
        name="slow",
        title=ABOUT,
        load=(
            f"{args.readers:,} readers, {args.stalled} of them stall for {args.stall:g} s; {args.rate:g} events/s, "
            f"frames of {args.frame} bytes."
        ),
        columns=(
            Column("p99_before_ms", "others' p99 before, ms", 2),
            Column("p99_during_ms", "others' p99 during, ms", 2),
            Column("lost", "others lost", 0),
            Column("stalled_complete", "stalled complete", 0),
            Column("stalled_dropped", "stalled dropped", 0),
            Column("stalled_lost", "stalled lost", 0),
            Column("catch_up_s", "catch-up, s", 2),
            Column("behind_kb_each", "behind each, KB", 0),
            Column("rss_growth_kb_each", "RSS growth each, KB"),
            Column("rss_growth_mb", "RSS growth, MB"),
        ),
        rows=rows,
        targets=[target],
        notes=bench.notes,
        chart=bars("Others' p99 while some stall", "ms", {name: row["p99_during_ms"] for name, row in rows.items()}),
        passed="gateway" not in rows or rows["gateway"]["stalled_complete"] == args.stalled,
    )
