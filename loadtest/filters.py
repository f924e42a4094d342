"""What an event costs when there are very many different filters and it matches one of them."""

from __future__ import annotations

import argparse
import time
from functools import partial

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import no_garbage_collection
from loadtest.rig.publish import Publisher, pace
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, quantile, unharmed
from loadtest.rig.wait import until

ABOUT = "cost of an event that matches one of many filters"
PEERS = ("nchan",)
QUICK = ("--filters", "10", "500", "--seconds", "2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--filters", type=int, nargs="+", default=[10, 10_000], help="subscribers, each with its own filter"
    )
    parser.add_argument("--rate", type=float, default=1000, help="events a second, to each filter in turn")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--seconds", type=float, default=10, help="length of each measurement")


async def measure(bench: Bench, args: argparse.Namespace, name: str, filters: int) -> Row:
    # Heartbeats would be charged to the events, more of them the more connections there are.
    async with bench.server(name, heartbeat=600.0) as peer:
        publisher = await peer.publisher()
        try:
            with Fleet(peer.host, peer.port) as fleet:
                bench.say(f"{name}: {filters} filters")
                requests = [peer.request(f"load-{i}") for i in range(filters)]
                await fleet.open(requests, samplers=min(filters, 1000))
                return await events_in_turn(args, peer, fleet, publisher, filters)
        finally:
            publisher.close()


async def events_in_turn(args: argparse.Namespace, peer: Peer, fleet: Fleet, publisher: Publisher, filters: int) -> Row:
    """Publish to each channel once, so that what a first event makes is made; then measure."""

    # A prime step visits the filters in an order that has nothing to do with the order of connecting.
    def channel(number: int) -> str:
        return f"load-{number * 7919 % filters}"

    size = peer.size(args.frame)
    warm = await pace(publisher, rate=4000, seconds=filters / 4000, size=size, channels=channel)
    if not await until(lambda: fleet.total() >= warm, 20):
        raise RuntimeError(f"{peer.name}: {warm - fleet.total()} of {warm} first events did not come")
    fleet.forget_latencies()
    cpu, start = peer.cpu(), time.monotonic()
    with no_garbage_collection():
        sent = await pace(publisher, rate=args.rate, seconds=args.seconds, size=size, channels=channel)
        await until(lambda: fleet.total() >= warm + sent, 10)
    elapsed, cpu, latencies = time.monotonic() - start, peer.cpu() - cpu, fleet.latencies()
    return {
        "cpu_us_per_event": cpu / sent * 1e6,
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "lost": warm + sent - fleet.total(),
        "server_cpu_percent": 100 * cpu / elapsed,
        "rss_mb": peer.memory().rss / 2**20,
    }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    names = bench.chosen("channels")
    rows = await bench.compare(
        {f"{name}, {count:,}": partial(measure, bench, args, name, count) for name in names for count in args.filters}
    )
    few, many = f"{min(args.filters):,}", f"{max(args.filters):,}"
    ratios = {
        f"{name}: cost of an event with {many} filters / with {few}": rows[f"{name}, {many}"]["cpu_us_per_event"]
        / rows[f"{name}, {few}"]["cpu_us_per_event"]
        for name in names
    }
    limits = {f"gateway: cost of an event with {many} filters / with {few}": ("<=", 1.5)}
    return Report(
        name="filters",
        title=ABOUT,
        load=f"One subscriber a filter, {args.rate:g} events/s to the filters in turn, {args.seconds:g} s each.",
        columns=(
            Column("cpu_us_per_event", "CPU per event, µs", 1),
            Column("p50_ms", "p50, ms", 2),
            Column("p99_ms", "p99, ms", 2),
            Column("lost", "lost", 0),
            Column("server_cpu_percent", "server CPU, %", 1),
            Column("rss_mb", "RSS, MB"),
        ),
        rows=rows,
        ratios=ratios,
        targets=[
            ratio_target("g", f"cost of an event with {many} filters <= 1.5x the cost with {few}", ratios, limits)
        ],
        notes=bench.notes,
        chart=bars(ABOUT, "µs of server CPU", {label: row["cpu_us_per_event"] for label, row in rows.items()}),
        passed=unharmed(rows, "lost"),
    )
