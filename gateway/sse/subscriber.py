"""One subscription: what it wants, where it stands, and reading on from there.

A subscriber is in one of two lanes.  In the catch-up lane it has cursors and reads by position at the pace of its
client, so a slow one costs no queue and loses nothing.  At the tail it joins a cohort (`gateway.sse.live`) and gives
its cursors up: its position is then that of the lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Event
from gateway.events.filter import predicate
from gateway.events.position import EventId, format_id, format_position, speller
from gateway.sse.cohort import Cohort, CohortKey
from gateway.sse.connection import Connection
from gateway.sse.ending import DISCONNECTED, FAILED, Ending
from gateway.sse.frame import describe_gap, describe_skipped
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.window import Item

BATCH = 500
"""Items a turn: small enough that other connections get theirs, large enough that joining pays."""
PASSED_OVER = 100
"""Events that must go by unmatched before a ``gateway.position`` is worth sending."""


class Meter(Protocol):
    """Whoever counts."""

    def wrote(self, events: int, size: int, *, replay: bool) -> None: ...
    def lagged(self, seconds: float) -> None: ...
    def gap(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, and sources of time and chance. `retry` is the reconnect delay told to clients."""

    heartbeat: float
    retry: float
    clock: Callable[[], float]
    jitter: Callable[[], float]

    def retry_ms(self) -> int:
        """The reconnect delay, spread by 20 % either way so that clients do not come back in step."""
        return round(self.retry * 1000 * (0.8 + 0.4 * self.jitter()))

    def drain_retry_ms(self) -> int:
        """3 to 10 s: browsers give up for good on a proxy's 502, so after a drain they must not come back early."""
        return round(3000 + 7000 * self.jitter())


class Subscriber:
    """Reads `cursors` (one a stream, by name) and writes what `key` lets through, as `key.wire` says."""

    __slots__ = (
        "_bell",
        "_deadline",
        "_meter",
        "_passed_over",
        "_replayed",
        "_timing",
        "caught_up",
        "cohort",
        "connection",
        "cursors",
        "descriptor",
        "ending",
        "gaps",
        "key",
        "lost",
        "on_close",
        "on_end",
        "on_leave",
        "paused",
        "seen_at_join",
        "write",
    )

    def __init__(
        self, cursors: Sequence[Cursor], gaps: Sequence[Gap], key: CohortKey, timing: Timing, meter: Meter
    ) -> None:
        self.cursors = tuple(cursors)
        self.gaps = tuple(gaps)
        self.key = key
        self.on_close: Callable[[], None] | None = None
        """Told when the subscription is over, whatever lane it was in."""
        self.caught_up = False
        self.ending: Ending | None = None
        self.cohort: Cohort | None = None
        self.connection: Connection | None = None
        self.write: Callable[[bytes | memoryview], None] | None = None
        self.descriptor: int | None = None
        """Of its socket, if that may be written to while `write` has nothing buffered."""
        self.seen_at_join = 0
        self.paused = False
        self.lost = False
        self.on_end: Callable[[Subscriber], None] | None = None
        self.on_leave: Callable[[Subscriber], None] | None = None
        self._bell: asyncio.Event | None = None
        self._deadline = 0.0
        self._passed_over = 0
        self._replayed = 0
        self._timing = timing
        self._meter = meter

    def __repr__(self) -> str:
        lane = "live" if self.cohort is not None else "at the tail" if self.caught_up else "catching up"
        return f"<Subscriber {self.key.filter!r} {lane}>"

    @property
    def position(self) -> str:
        """Where a client that has all that was written so far resumes. Only in the catch-up lane."""
        if len(self.cursors) == 1:
            return format_id(self.cursors[0].position)
        return format_position({cursor.stream: cursor.position for cursor in self.cursors})

    def end(self, ending: Ending) -> None:
        """Say goodbye and finish, as soon as the block being written is out."""
        if self.ending is None:
            self.ending = ending
            self.ring()
            if self.on_end is not None:
                self.on_end(self)

    def fail(self) -> None:
        """Something of ours went wrong: cut the connection. The client resumes by its last id."""
        if self.ending is None:
            self.ending = FAILED
        if self.connection is not None:
            self.connection.abort()

    def ring(self) -> None:
        """Wake whoever waits for something to happen to this subscriber."""
        if self._bell is not None:
            self._bell.set()

    async def wait(self, seconds: float) -> bool:
        """Until `ring`, at most `seconds`; whether it rang."""
        self._bell = asyncio.Event()
        try:
            await asyncio.wait_for(self._bell.wait(), seconds)
            return True
        except TimeoutError:
            return False
        finally:
            self._bell = None

    async def wait_at_tail(self) -> None:
        """Until there is more to read, or a heartbeat is due."""
        if self.ending is None and all(cursor.at_tail for cursor in self.cursors):
            await self.wait(max(0.0, self._deadline - self._timing.clock()))

    # What the server tells us (`gateway.sse.connection.Listener`).

    def on_paused(self) -> None:
        """The client is slow."""
        self.paused = True
        if self.cohort is not None:
            self.cohort.place(self)

    def on_resumed(self) -> None:
        """The client took what was buffered."""
        self.paused = False
        if self.cohort is not None:
            self.cohort.place(self)
        self.ring()

    def on_lost(self) -> None:
        """The client is gone."""
        self.lost = True
        if self.ending is None:
            self.ending = DISCONNECTED
        self.ring()
        if self.on_leave is not None:
            self.on_leave(self)

    # Blocks of bytes.

    def opening(self) -> bytes:
        """The first bytes of the body, in a write of their own."""
        return self.written(self.key.wire.opening(self._timing.retry_ms()))

    def known_gaps(self) -> bytes:
        """The gaps found when the place to start was looked up."""
        block = b"".join(self._tell_gap(gap, self.position) for gap in self.gaps)
        self.gaps = ()
        return block

    def arrive(self) -> bytes:
        """The replay is over: ``gateway.caught-up``, once."""
        if self.caught_up:
            return b""
        self.caught_up = True
        position = self.position
        return self._control("gateway.caught-up", {"position": position, "replayed": self._replayed}, position)

    def farewell(self, position: str) -> bytes:
        """``gateway.closing``, if the ending is one that clients are told of."""
        if self.ending is None or not self.ending.told or not self.key.control:
            return b""
        data = {"reason": self.ending.reason, "reconnect": self.ending.reconnect}
        return self.key.wire.control("gateway.closing", data, position, self._timing.drain_retry_ms())

    def tick(self) -> bytes:
        """A sign of life, when nothing was written for the heartbeat interval; else nothing."""
        if self._timing.clock() < self._deadline:
            return b""
        if self.key.control and self._passed_over >= PASSED_OVER:
            position = self.position
            return self.written(self._control("gateway.position", {"position": position}, position))
        return self.written(self.key.wire.heartbeat)

    def written(self, block: bytes) -> bytes:
        """Note that `block` goes out now."""
        self._deadline = self._timing.clock() + self._timing.heartbeat
        return block

    async def read(self, cursor: Cursor, upto: EventId | None = None) -> tuple[bytes, bool]:
        """One batch of one stream, no further than `upto`: the bytes to write, and whether the position moved."""
        try:
            items = await cursor.read(BATCH, upto)
        except UNAVAILABLE:
            # The connection outlives Redis: go on from the same position when it is back.
            await self.wait(0.2 + 0.3 * self._timing.jitter())
            return b"", True
        if not items:
            return b"", False
        block = self._encode(cursor, items)
        return (self.written(block) if block else b""), True

    def _encode(self, cursor: Cursor, items: Sequence[Item]) -> bytes:
        accepts = predicate(self.key.filter)
        if accepts is None and cursor.index is not None and len(self.cursors) == 1:
            blocks = self.key.wire.blocks(cursor.source).run(cursor.index, items)
            if blocks is not None:
                return self._encoded(blocks, len(blocks), len(items), len(items) - 1)
        identify = speller(cursor.stream, {it.stream: it.position for it in self.cursors})
        render = self._renderer(cursor, identify)
        parts: list[bytes] = []
        events, last_match = 0, -1
        for at, item in enumerate(items):
            if isinstance(item, Event):
                if accepts is not None and not accepts(item):
                    continue
                parts.append(render(at, item))
                events += 1
            elif isinstance(item, Gap):
                parts.append(self._tell_gap(item, identify(item.id)))
            elif self.key.control and self.key.filter.could_accept(item):
                parts.append(self.key.wire.control("gateway.skipped", describe_skipped(item), identify(item.id)))
            else:
                continue
            last_match = at
        return self._encoded(parts, events, len(items), last_match)

    def _encoded(self, parts: list[bytes], events: int, items: int, last_match: int) -> bytes:
        passed = items - 1 - last_match
        self._passed_over = passed if last_match >= 0 else self._passed_over + passed
        if not self.caught_up:
            self._replayed += events
        block = b"".join(parts)
        if events:
            self._meter.wrote(events, len(block), replay=not self.caught_up)
        return block

    def _renderer(self, cursor: Cursor, identify: Callable[[int], str]) -> Callable[[int, Event], bytes]:
        """(offset in the batch, event) -> block. What many read is rendered once for all."""
        wire, index = self.key.wire, cursor.index
        if len(self.cursors) == 1:
            if index is None:
                return lambda at, event: wire.block(event)
            blocks = wire.blocks(cursor.source)
            return lambda at, event: blocks.one(index + at, event)
        if index is None:
            return lambda at, event: wire.identify(wire.body(event), identify(event.id))
        bodies = wire.bodies(cursor.source)
        return lambda at, event: wire.identify(bodies.one(index + at, event), identify(event.id))

    def _tell_gap(self, gap: Gap, position: str) -> bytes:
        self._meter.gap(gap.reason)
        return self.key.wire.control("gateway.gap", describe_gap(gap), position) if self.key.control else b""

    def _control(self, name: str, data: dict[str, Any], position: str) -> bytes:
        self._passed_over = 0
        return self.key.wire.control(name, data, position) if self.key.control else b""


async def pull(subscriber: Subscriber) -> AsyncIterator[bytes]:
    """The catch-up lane as an iterator that waits at the tail: for servers that give no access to the transport."""
    for cursor in subscriber.cursors:
        cursor.reader.listeners.add(subscriber.ring)
    try:
        yield subscriber.opening()
        yield subscriber.known_gaps()
        while subscriber.ending is None:
            moved = False
            for cursor in subscriber.cursors:
                block, read = await subscriber.read(cursor)
                moved = moved or read
                yield block
            if not moved and all(cursor.at_tail for cursor in subscriber.cursors):
                yield subscriber.arrive()
                await subscriber.wait_at_tail()
            yield subscriber.tick()
        yield subscriber.farewell(subscriber.position)
    finally:
        for cursor in subscriber.cursors:
            cursor.reader.listeners.discard(subscriber.ring)
