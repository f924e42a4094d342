"""Time from the start of the process to the first subscription answered."""

from __future__ import annotations

import argparse
import time
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.publish import fill
from loadtest.rig.report import Column, Report
from loadtest.rig.stats import Row, medians

ABOUT = "time from starting the process to the first subscriber"
PEERS = ("bare", "nchan", "naive")
QUICK = ("--times", "1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=5, help="starts of each; the median counts")
    parser.add_argument("--stored", type=int, default=20_000, help="events in Redis, which fill the gateway's window")


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    async def once(name: str, embedded: bool) -> Row:
        async with bench.restarted(name, embedded=embedded) as peer:
            assert peer.process is not None
            with Fleet(peer.host, peer.port) as fleet:
                await fleet.open([peer.request()])
                ready = time.monotonic() - peer.process.started
            return {"ready_s": ready, "cpu_s": peer.cpu(), "rss_mb": peer.memory().rss / 2**20}

    async def measure(name: str, stored: int = 0, embedded: bool = False) -> Row:
        await bench.broker.call("FLUSHALL")
        if stored:
            publisher = await bench.broker.publisher()
            await fill(publisher, stored, 100)
            publisher.close()
        return medians([await once(name, embedded) for _ in range(args.times)])

    cases = {}
    for name in bench.chosen("idle"):
        cases[name] = partial(measure, name)
        if name == "gateway":
            cases[f"gateway, {args.stored:,} events stored"] = partial(measure, name, stored=args.stored)
            cases["gateway, embedded Valkey"] = partial(measure, name, embedded=True)
    rows = await bench.compare(cases)
    return Report(
        name="startup",
        title=ABOUT,
        load=f"Median of {args.times} starts; Redis is there already, but for the embedded one.",
        columns=(Column("ready_s", "ready after, s", 3), Column("cpu_s", "CPU, s", 2), Column("rss_mb", "RSS, MB")),
        rows=rows,
        notes=bench.notes,
        chart=bars(ABOUT, "s", {label: row["ready_s"] for label, row in rows.items()}),
    )
