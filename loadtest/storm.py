"""Everybody comes back at once, each behind by many events, and the server has to read them from Redis."""

from __future__ import annotations

import argparse
import time
from functools import partial

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import quiet
from loadtest.rig.payload import payload
from loadtest.rig.publish import Publisher, fill, settle
from loadtest.rig.reader import Reader
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row, unharmed
from loadtest.rig.wait import until

ABOUT = "all clients return at once, each far behind, window cold"
PEERS = ("nchan",)
QUICK = ("--clients", "200", "--behind", "200")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=5000, help="clients that return")
    parser.add_argument("--behind", type=int, default=1000, help="events each has to catch up with")
    parser.add_argument(
        "--window", type=int, default=10, help="events in the gateway's memory, few: the window is cold"
    )
    parser.add_argument("--at-once", type=int, default=1000, help="connects under way at a time")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--drain", type=float, default=120.0, help="seconds to wait for all to be live again")


async def first_id(peer: Peer, publisher: Publisher, size: int) -> str:
    """Publish one event and see its id as a subscriber does."""
    seen: list[bytes] = []
    scout = await Reader.open((peer.host, peer.port), peer.request(), seen.append)
    try:
        if await until(lambda: scout.status == 200, 10):
            publisher.send(payload(0, size))
        if not await until(lambda: bool(seen), 10) or scout.last_id is None:
            raise RuntimeError(f"{peer.name}: no first event (status {scout.status})")
        return scout.last_id
    finally:
        scout.cut()


async def storm(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    window = args.window if name == "gateway" else args.behind + 10
    async with bench.server(name, window=window, heartbeat=60.0) as peer:
        publisher = await peer.publisher()
        try:
            size = peer.size(args.frame)
            last_id = await first_id(peer, publisher, size)
            # The scout is gone for the server too, or its replay would warm what shall be cold.
            await quiet(peer)
            await fill(publisher, args.behind, size, first=1)
            # The reader of the gateway has to be done with these events, or its reads would be counted.
            await quiet(peer)
            span = await bench.broker.reply_size("XRANGE", "events", "-", "+", "COUNT", str(args.behind))
            await bench.broker.call("CONFIG", "RESETSTAT")
            bench.say(f"{name}: {args.clients} clients return, {args.behind} events behind")
            with Fleet(peer.host, peer.port) as fleet:
                row = await come_back(args, peer, fleet, publisher, last_id)
            commands = await bench.broker.commands()
            row["redis_reads"] = sum(
                calls for command, calls in commands.items() if command in ("xrange", "xread", "xrevrange")
            )
            row["redis_info"] = sum(calls for command, calls in commands.items() if command.startswith("xinfo"))
            # What the publisher and this program read back is less than a thousandth of the range.
            row["ranges_read"] = await bench.broker.bytes_sent() / span if name == "gateway" else float("nan")
            return row
        finally:
            publisher.close()


async def come_back(args: argparse.Namespace, peer: Peer, fleet: Fleet, publisher: Publisher, last_id: str) -> Row:
    """All connect, catch up, and get one more event, live."""
    broker, memory, cpu, start = peer.site.broker.cpu(), peer.memory(), peer.cpu(), time.monotonic()
    await fleet.open([peer.request(last_id=last_id)] * args.clients, at_once=args.at_once)
    connected = time.monotonic() - start
    due = args.behind * args.clients
    await until(lambda: fleet.total() >= due, args.drain)
    caught_up = time.monotonic() - start
    publisher.send(payload(args.behind + 1, peer.size(args.frame)))
    await settle(publisher)
    await until(lambda: fleet.total() >= due + args.clients, 20)
    cpu, elapsed = peer.cpu() - cpu, time.monotonic() - start
    counts = fleet.counts()
    return {
        "connected_s": connected,
        "live_again_s": caught_up,
        "events_per_s": due / caught_up,
        "lost": sum(max(0, args.behind + 1 - count) for count in counts),
        "extra": sum(max(0, count - args.behind - 1) for count in counts),
        "cpu_us_per_event": cpu / due * 1e6,
        "server_cpu_percent": 100 * cpu / elapsed,
        "redis_cpu_s": peer.site.broker.cpu() - broker,
        "peak_mb": (peer.memory().peak - memory.rss) / 2**20,
    }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare({name: partial(storm, bench, args, name) for name in bench.chosen("resume")})
    text = f"{args.clients:,} clients return at once, {args.behind:,} behind: Redis reads <= 3x the range, none lost"
    target = Target("i", text, "not measured", None)
    if "gateway" in rows:
        ours = rows["gateway"]
        measured = (
            f"{ours['ranges_read']:.1f}x the range, {ours['lost']:.0f} lost, live again in {ours['live_again_s']:.1f} s"
        )
        target = Target("i", text, measured, ours["ranges_read"] <= 3 and ours["lost"] == 0 and ours["extra"] == 0)
    return Report(
        name="storm",
        title=ABOUT,
        load=f"{args.clients:,} clients, {args.behind:,} events each, {args.at_once:,} connects under way at a time.",
        columns=(
            Column("live_again_s", "all live again, s", 2),
            Column("connected_s", "all connected, s", 2),
            Column("events_per_s", "events/s", 0),
            Column("lost", "lost", 0),
            Column("extra", "repeated", 0),
            Column("cpu_us_per_event", "CPU per event, µs", 2),
            Column("peak_mb", "memory at the peak, MB more"),
            Column("redis_reads", "XRANGE + XREAD calls", 0),
            Column("redis_info", "XINFO calls", 0),
            Column("ranges_read", "bytes from Redis / the range", 2),
            Column("redis_cpu_s", "Redis CPU, s", 2),
        ),
        rows=rows,
        targets=[target],
        notes=[*bench.notes, "Nchan replays from its own memory; it has no Redis here."]
        if "nchan" in rows
        else bench.notes,
        chart=bars("Until all are live again", "s", {name: row["live_again_s"] for name, row in rows.items()}),
        passed=unharmed(rows, "lost", "extra"),
    )
