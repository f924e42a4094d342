"""What one delivery costs the server."""

from __future__ import annotations

import argparse
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.load import Load, deliver
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, gateway_over_peers, unharmed

ABOUT = "CPU of the server per delivery, at a steady rate"
PEERS = ("floor", "nchan", "naive")
QUICK = ("--subscribers", "200", "--seconds", "2", "--warmup", "0.5")

COLUMNS = (
    Column("cpu_us_per_delivery", "CPU per delivery, µs", 2),
    Column("deliveries_per_s", "deliveries/s", 0),
    Column("p50_ms", "p50, ms"),
    Column("p99_ms", "p99, ms"),
    Column("lost", "lost", 0),
    Column("extra", "repeated", 0),
    Column("bytes_per_delivery", "bytes on the wire"),
    Column("server_cpu_percent", "server CPU, %", 0),
    Column("generator_cpu_percent", "generator CPU, %", 0),
    Column("redis_cpu_percent", "Redis CPU, %", 0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1000, help="connections that get every event")
    parser.add_argument("--rate", type=float, default=50, help="events a second")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--seconds", type=float, default=8, help="length of the measurement")
    parser.add_argument("--warmup", type=float, default=1, help="seconds of load before it")
    parser.add_argument("--samplers", type=int, default=50, help="subscribers that measure latency")


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    load = Load(args.subscribers, args.rate, args.seconds, args.frame, args.samplers, args.warmup)

    async def measure(name: str) -> Row:
        async with bench.server(name) as peer:
            bench.say(f"{name}: {args.subscribers} subscribers, {args.rate:g} events/s")
            return await deliver(peer, load)

    rows = await bench.compare({name: partial(measure, name) for name in bench.chosen("fanout")})
    ratios = gateway_over_peers(rows, "cpu_us_per_delivery", "CPU per delivery")
    limits = {
        "gateway / floor, CPU per delivery": ("<=", 2.0),
        "gateway / nchan, CPU per delivery": ("<=", 0.75),
    }
    return Report(
        name="fanout",
        title=ABOUT,
        load=(
            f"{args.subscribers:,} subscribers, {args.rate:g} events/s, frames of {args.frame} bytes, "
            f"{args.seconds:g} s."
        ),
        columns=COLUMNS,
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("a", "CPU per delivery <= 2.0x the C floor and <= 0.75x Nchan", ratios, limits)],
        notes=bench.notes,
        chart=bars(ABOUT, "µs", {name: row["cpu_us_per_delivery"] for name, row in rows.items()}),
        passed=unharmed(rows, "lost", "extra"),
    )
