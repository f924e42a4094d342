"""How much one server can deliver before it loses events or falls behind."""

from __future__ import annotations

import argparse
from functools import partial

from loadtest.rig.bench import Bench
from loadtest.rig.chart import lines
from loadtest.rig.load import Load, deliver
from loadtest.rig.report import Column, Report, ratio_target
from loadtest.rig.stats import Row, gateway_over_peers

ABOUT = "most deliveries a second with none lost and a bounded p99"
PEERS = ("floor", "nchan", "naive")
QUICK = ("--subscribers", "200", "--seconds", "1", "--bisect", "1", "--doublings", "6")

COLUMNS = (
    Column("deliveries_per_s", "most deliveries/s", 0),
    Column("events_per_s", "at events/s", 0),
    Column("p50_ms", "p50, ms"),
    Column("p99_ms", "p99, ms"),
    Column("cpu_us_per_delivery", "CPU per delivery, µs", 2),
    Column("server_cpu_percent", "server CPU, %", 0),
    Column("generator_cpu_percent", "generator CPU, %", 0),
    Column("broken_at", "broke at events/s", 0),
    Column("broken_p99_ms", "p99 there, ms"),
    Column("broken_lost", "late there", 0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1000, help="connections that get every event")
    parser.add_argument(
        "--start", type=float, default=25, help="events a second of the first step; each next one doubles"
    )
    parser.add_argument("--doublings", type=int, default=12, help="at most")
    parser.add_argument(
        "--bisect", type=int, default=2, help="steps between the last rate that held and the first that broke"
    )
    parser.add_argument("--tries", type=int, default=2, help="a rate breaks when it breaks so many times in a row")
    parser.add_argument("--seconds", type=float, default=3, help="length of a step")
    parser.add_argument("--p99", type=float, default=100, help="the most that p99 may be, ms")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--samplers", type=int, default=20, help="subscribers that measure latency")


def holds(row: Row, rate: float, p99: float) -> bool:
    """Whether a step counts: all there, in time, and the generator really sent that much."""
    return row["lost"] == 0 and row["extra"] == 0 and row["p99_ms"] <= p99 and row["sent_per_s"] >= 0.95 * rate


async def step(bench: Bench, args: argparse.Namespace, name: str, rate: float) -> Row:
    """One rate, on a server started for it, so that no step inherits a backlog."""
    bench.say(f"{name}: {args.subscribers} subscribers, {rate:,.0f} events/s")
    load = Load(args.subscribers, rate, args.seconds, args.frame, args.samplers, warmup=0.3, drain=3.0)
    async with bench.server(name, heartbeat=60.0) as peer:
        return {**await deliver(peer, load), "events_per_s": rate}


async def climb(bench: Bench, args: argparse.Namespace, name: str, curve: list[tuple[float, float]]) -> Row:
    """Double the rate until it breaks, then halve the distance (in logarithms) `--bisect` times."""
    best: Row = {"deliveries_per_s": 0.0, "events_per_s": 0.0}
    broken: Row | None = None
    rate = args.start
    for _ in range(args.doublings + 1 + args.bisect):
        for _ in range(args.tries):
            row = await step(bench, args, name, rate)
            if holds(row, rate, args.p99):
                break
        curve.append((row["deliveries_per_s"], row["p99_ms"]))
        if holds(row, rate, args.p99):
            best = row
        else:
            broken = row
        if broken is None:
            rate *= 2
        elif best["events_per_s"] == 0 or broken["events_per_s"] / best["events_per_s"] < 2 ** (1.5 / 2**args.bisect):
            break
        else:
            rate = (best["events_per_s"] * broken["events_per_s"]) ** 0.5
    if broken is not None:
        best |= {f"broken_{key}": broken[f"{key}"] for key in ("p99_ms", "lost")} | {
            "broken_at": broken["events_per_s"]
        }
    return best


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    names = bench.chosen("fanout")
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    rows = await bench.compare({name: partial(climb, bench, args, name, curves[name]) for name in names})
    ratios = gateway_over_peers(rows, "deliveries_per_s", "most deliveries/s")
    limit = {"gateway / nchan, most deliveries/s": (">=", 10.0)}
    text = f"most deliveries/s with none lost and p99 <= {args.p99:g} ms: >= 10x Nchan's most"
    return Report(
        name="saturate",
        title=ABOUT,
        load=(
            f"{args.subscribers:,} subscribers, frames of {args.frame} bytes, steps of {args.seconds:g} s, "
            f"p99 <= {args.p99:g} ms."
        ),
        columns=COLUMNS,
        rows=rows,
        ratios=ratios,
        targets=[ratio_target("b", text, ratios, limit)],
        notes=bench.notes,
        chart=lines(ABOUT, "deliveries/s", "p99, ms", {name: sorted(curve) for name, curve in curves.items()}),
    )
