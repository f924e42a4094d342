"""How long an event is under way: from the moment it is sent (XADD, or POST) until a client has read it."""

from __future__ import annotations

import argparse
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import lines
from loadtest.rig.load import Load, deliver
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, unharmed

ABOUT = "time from publishing to the client"
PEERS = ("floor", "nchan", "naive")
QUICK = ("--subscribers", "1", "100", "--seconds", "2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 100, 1000], help="one measurement for each")
    parser.add_argument("--rate", type=float, default=50, help="events a second")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--seconds", type=float, default=8, help="length of each measurement")
    parser.add_argument("--samplers", type=int, default=100, help="subscribers that measure latency")


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    async def measure(name: str, subscribers: int) -> Row:
        async with bench.server(name) as peer:
            bench.say(f"{name}: {subscribers} subscribers, {args.rate:g} events/s")
            return await deliver(peer, Load(subscribers, args.rate, args.seconds, args.frame, args.samplers))

    names = bench.chosen("fanout")
    rows = await bench.compare(
        {f"{name}, {count:,}": partial(measure, name, count) for count in args.subscribers for name in names}
    )
    most = f"{max(args.subscribers):,}"
    ratios = {
        f"gateway / {name}, {key} at {most}": rows[f"gateway, {most}"][f"{key}_ms"]
        / rows[f"{name}, {most}"][f"{key}_ms"]
        for name in names
        for key in ("p50", "p99")
        if name != "gateway" and "gateway" in names
    }
    limits = {f"gateway / nchan, p99 at {most}": ("<=", 1.0)}
    curves = {name: [(count, rows[f"{name}, {count:,}"]["p99_ms"]) for count in args.subscribers] for name in names}
    return Report(
        name="latency",
        title=ABOUT,
        load=f"{args.rate:g} events/s, frames of {args.frame} bytes, {args.seconds:g} s each.",
        columns=(
            Column("p50_ms", "p50, ms", 2),
            Column("p99_ms", "p99, ms", 2),
            Column("lost", "lost", 0),
            Column("server_cpu_percent", "server CPU, %", 0),
            Column("generator_cpu_percent", "generator CPU, %", 0),
        ),
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("c", f"p99 at {most} subscribers <= Nchan's publish -> client", ratios, limits)],
        notes=bench.notes,
        chart=lines(ABOUT, "subscribers", "p99, ms", curves),
        passed=unharmed(rows, "lost"),
    )
