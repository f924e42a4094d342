"""How fast one client catches up: from the server's memory, and from Redis."""

from __future__ import annotations

import argparse
import asyncio
import time
from functools import partial

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.fleet import Fleet
from loadtest.rig.load import no_garbage_collection
from loadtest.rig.publish import Publisher, fill
from loadtest.rig.report import Column, Report, Target
from loadtest.rig.stats import Row, medians, unharmed
from loadtest.rig.wait import until

ABOUT = "events a second that one client gets when it catches up"
PEERS = ("nchan",)
QUICK = ("--events", "20000", "--times", "2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=200_000, help="events to catch up with")
    parser.add_argument("--peer-events", type=int, default=20_000, help="the same for peers")
    parser.add_argument("--frame", type=int, default=150, help="bytes of a frame on the wire")
    parser.add_argument("--times", type=int, default=5, help="replays, one after the other; the median counts")


async def replay(peer: Peer, events: int) -> Row:
    """One client from the earliest event to the last of `events`."""
    with Fleet(peer.host, peer.port) as fleet, no_garbage_collection():
        cpu, start = peer.cpu(), time.monotonic()
        await fleet.open([peer.request(since="earliest")])
        if not await until(lambda: fleet.total() >= events, 60, every=0.001):
            raise RuntimeError(f"{peer.name}: the replay stopped at {fleet.total()} of {events}")
        elapsed = time.monotonic() - start
        await asyncio.sleep(0.1)
        return {
            "events_per_s": events / elapsed,
            "cpu_us_per_event": (peer.cpu() - cpu) / events * 1e6,
            "mb_per_s": fleet.bytes() / elapsed / 2**20,
            "extra": fleet.total() - events,
        }


async def measure(bench: Bench, args: argparse.Namespace, name: str, window: int, events: int) -> Row:
    await bench.broker.call("FLUSHALL")
    if name == "gateway":
        # Before it starts: the window is filled from Redis then.
        publisher: Publisher = await bench.broker.publisher()
        await fill(publisher, events, bench.make(name).size(args.frame))
    async with bench.restarted(name, window=window, env={"GATEWAY_WINDOW_BYTES": str(1 << 30)}) as peer:
        bench.say(f"{name}: {events:,} events, window {window:,}")
        if name != "gateway":
            publisher = await peer.publisher()
            await fill(publisher, events, peer.size(args.frame))
        publisher.close()
        await replay(peer, events)
        return medians([await replay(peer, events) for _ in range(args.times)])


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    cases = {}
    for name in bench.chosen("resume"):
        if name == "gateway":
            cases["gateway, from the window"] = partial(measure, bench, args, name, args.events + 1, args.events)
            cases["gateway, from Redis"] = partial(measure, bench, args, name, 1, args.events)
        else:
            cases[name] = partial(measure, bench, args, name, args.peer_events + 1, args.peer_events)
    rows = await bench.compare(cases)
    found = [rows.get(f"gateway, from {place}", {}).get("events_per_s") for place in ("the window", "Redis")]
    text = "replay, one client: >= 1,000,000 events/s from the window, >= 150,000 from Redis"
    target = Target("h", text, "not measured", None)
    if found[0] is not None and found[1] is not None:
        target = Target("h", text, f"{found[0]:,.0f} and {found[1]:,.0f}", found[0] >= 1e6 and found[1] >= 150e3)
    return Report(
        name="replay",
        title=ABOUT,
        load=(
            f"{args.events:,} events ({args.peer_events:,} for peers), frames of {args.frame} bytes, "
            f"median of {args.times}."
        ),
        columns=(
            Column("events_per_s", "events/s", 0),
            Column("mb_per_s", "MB/s", 0),
            Column("cpu_us_per_event", "CPU per event, µs", 2),
            Column("extra", "repeated", 0),
        ),
        rows=rows,
        targets=[target],
        notes=bench.notes,
        chart=bars(ABOUT, "events/s", {label: row["events_per_s"] for label, row in rows.items()}),
        passed=unharmed(rows, "extra"),
    )
