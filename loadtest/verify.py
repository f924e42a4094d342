"""Does every subscriber get every event once and in order, however often its connection is cut?"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from loadtest.peers import Peer
from loadtest.rig.bench import Bench
from loadtest.rig.chart import bars
from loadtest.rig.payload import STAMP, payload
from loadtest.rig.publish import Publisher, settle
from loadtest.rig.reader import Reader
from loadtest.rig.report import Column, Report
from loadtest.rig.stats import Row
from loadtest.rig.wait import until

ABOUT = "every event once and in order at every subscriber, under random cuts"
PEERS = ("nchan",)
CHANNELS = ("a", "b", "")
QUICK = ("--subscribers", "40", "--events", "500", "--rate", "250")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=200, help="a third each for channel a, channel b and both")
    parser.add_argument("--events", type=int, default=4000, help="events in all, each in channel a or b at random")
    parser.add_argument("--rate", type=float, default=250, help="events a second")
    parser.add_argument("--frame", type=int, default=300, help="bytes of a frame on the wire")
    parser.add_argument("--cut-every", type=float, default=1.0, help="mean seconds between the cuts of a connection")
    parser.add_argument("--away", type=float, default=0.2, help="mean seconds between a cut and the reconnect")
    parser.add_argument(
        "--stalls", type=float, default=0.3, help="share of cuts before which it stops reading for a while"
    )
    parser.add_argument("--receive-buffer", type=int, default=4096, help="SO_RCVBUF, small: so that stalls are felt")
    parser.add_argument(
        "--window", type=int, default=None, help="events in the server's memory; small: replay from Redis"
    )
    parser.add_argument("--restarts", type=int, default=0, help="restarts of the server on the way")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds to wait for the last event")
    parser.add_argument("--seed", type=int, default=1)


@dataclass
class Tally:
    """What one subscriber saw, against what was published for it."""

    expected: list[int]
    """Numbers of the published events that match, in order; grows while the test runs."""
    at: int = 0
    """How many of them have been seen."""
    lost: int = 0
    repeated: int = 0
    foreign: int = 0
    """Events that its filter should have kept away."""

    def see(self, data: bytes) -> None:
        match = STAMP.search(data)
        number = int(match[2]) if match else -1
        if self.at < len(self.expected) and self.expected[self.at] == number:
            self.at += 1
        elif number in self.expected[: self.at]:
            self.repeated += 1
        elif number in self.expected[self.at :]:
            reached = self.expected.index(number, self.at)
            self.lost += reached - self.at
            self.at = reached + 1
        else:
            self.foreign += 1

    @property
    def late(self) -> int:
        """Events after the last one seen: not there yet."""
        return len(self.expected) - self.at

    @property
    def hurt(self) -> bool:
        return bool(self.lost or self.late or self.repeated or self.foreign)


@dataclass
class Course:
    """The state that subscribers and publisher share."""

    peer: Peer
    published: dict[str, list[int]] = field(default_factory=lambda: {"a": [], "b": [], "": []})
    tallies: list[Tally] = field(default_factory=list)
    opened: int = 0
    """Connections that got an answer."""
    cuts: int = 0
    refused: int = 0
    calm: bool = False
    """Set at the end: from then on nobody cuts."""


async def subscriber(
    course: Course, tally: Tally, channel: str, chance: random.Random, args: argparse.Namespace
) -> None:
    """Subscribe, get cut, come back with the last id; until cancelled."""
    last_id: str | None = None
    while True:
        peer = course.peer
        request = peer.request(channel or None, None, last_id)
        try:
            reader = await Reader.open((peer.host, peer.port), request, tally.see, last_id, args.receive_buffer)
        except OSError:
            course.refused += 1
            await asyncio.sleep(0.05)
            continue
        try:
            await live(course, reader, chance, args)
        finally:
            last_id = reader.last_id
            reader.cut()
        await asyncio.sleep(chance.expovariate(1 / args.away) if last_id is not None and args.away else 0.02)


async def live(course: Course, reader: Reader, chance: random.Random, args: argparse.Namespace) -> None:
    """Read until it is time for a cut, or the server ends it."""
    closed = reader.closed
    await asyncio.wait([closed, reader.opened], return_when=asyncio.FIRST_COMPLETED)
    course.opened += 1
    while not closed.done():
        await asyncio.wait([closed], timeout=chance.expovariate(1 / args.cut_every))
        # Without an id there is nothing to resume from: the first event has to come before the first cut.
        if course.calm or reader.last_id is None or closed.done():
            continue
        if chance.random() < args.stalls and reader.transport is not None:
            reader.transport.pause_reading()
            await asyncio.wait([closed], timeout=chance.uniform(0.05, 1.0))
            if chance.random() < 0.5 and not closed.done():
                reader.transport.resume_reading()
                continue
        course.cuts += 1
        return


async def publish(course: Course, publisher: Publisher, chance: random.Random, args: argparse.Namespace) -> None:
    """Publish at the rate asked for, each event to channel a or b; what is expected is noted before it is sent."""
    start = time.monotonic()
    size = course.peer.size(args.frame)
    for number in range(args.events):
        # The first two make sure that everybody has a place to resume from.
        channel = "ab"[number] if number < 2 else chance.choice("ab")
        course.published[channel].append(number)
        course.published[""].append(number)
        publisher.send(payload(number, size), channel)
        if number == 1 and not await until(lambda: all(tally.at for tally in course.tallies), 20):
            raise RuntimeError(f"{course.peer.name}: {sum(not t.at for t in course.tallies)} never saw a first event")
        if number < 2:
            start = time.monotonic() - number / args.rate
        await asyncio.sleep(max(0.0, start + number / args.rate - time.monotonic()))


async def restart(bench: Bench, course: Course, stack: AsyncExitStack, args: argparse.Namespace) -> None:
    """End the server and start it again, `--restarts` times, spread over the run."""
    for _ in range(args.restarts):
        await asyncio.sleep(args.events / args.rate / (args.restarts + 1))
        course.peer.stop()
        course.peer = await stack.enter_async_context(bench.restarted(course.peer.name, window=args.window))


async def verify(bench: Bench, args: argparse.Namespace, name: str) -> Row:
    """One whole run against one server."""
    async with AsyncExitStack() as stack:
        course = Course(await stack.enter_async_context(bench.server(name, window=args.window)))
        publisher = await course.peer.publisher()
        stack.callback(publisher.close)
        tasks: list[asyncio.Task[None]] = []
        stack.callback(lambda: [task.cancel() for task in tasks])
        for i in range(args.subscribers):
            channel = CHANNELS[i % 3] or ("" if "all" in course.peer.can else "a")
            course.tallies.append(Tally(course.published[channel]))
            chance = random.Random(args.seed * 100_003 + i)
            tasks.append(asyncio.create_task(subscriber(course, course.tallies[-1], channel, chance, args)))
        if not await until(lambda: course.opened >= args.subscribers, 30):
            raise RuntimeError(f"{name}: only {course.opened} of {args.subscribers} connected")
        bench.say(f"{name}: {args.events} events to {args.subscribers} subscribers that are cut at random")
        if args.restarts and "durable" in course.peer.can:
            tasks.append(asyncio.create_task(restart(bench, course, stack, args)))
        await publish(course, publisher, random.Random(args.seed), args)
        await settle(publisher)
        course.calm = True
        await until(lambda: not any(tally.late for tally in course.tallies), args.drain)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return {
            "deliveries": sum(tally.at - tally.lost for tally in course.tallies),
            "cuts": course.cuts,
            "refused": course.refused,
            "lost": sum(tally.lost for tally in course.tallies),
            "late": sum(tally.late for tally in course.tallies),
            "repeated": sum(tally.repeated for tally in course.tallies),
            "foreign": sum(tally.foreign for tally in course.tallies),
            "hurt": sum(tally.hurt for tally in course.tallies),
        }


async def run(bench: Bench, args: argparse.Namespace) -> Report:
    rows = await bench.compare(
        {name: partial(verify, bench, args, name) for name in bench.chosen("channels", "resume")}
    )
    return Report(
        name="verify",
        title=ABOUT,
        load=(
            f"{args.subscribers} subscribers, {args.events:,} events at {args.rate:g}/s, each connection cut every "
            f"{args.cut_every:g} s on average, {args.restarts} restarts of the server."
        ),
        columns=(
            Column("deliveries", "delivered", 0),
            Column("cuts", "cuts", 0),
            Column("refused", "connects refused", 0),
            Column("lost", "lost", 0),
            Column("late", f"not there after {args.drain:g} s", 0),
            Column("repeated", "repeated", 0),
            Column("foreign", "not asked for", 0),
            Column("hurt", "subscribers hurt", 0),
        ),
        rows=rows,
        notes=bench.notes,
        chart=bars(
            "Events lost or repeated under random cuts",
            "events",
            {k: r["lost"] + r["repeated"] for k, r in rows.items()},
        ),
        passed="gateway" not in rows or rows["gateway"]["hurt"] == 0,
    )
