"""One subscription: cursors into the log, turned into bytes by a wire.

`Subscriber.blocks` is the catch-up lane: it reads by position at the pace of its consumer, so a slow one costs no
queue and loses nothing; at the tail it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Event
from gateway.events.filter import Filter, predicate
from gateway.events.position import format_id, format_position
from gateway.sse.ending import Ending
from gateway.sse.frame import Wire, describe_gap
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.window import Item

CONTROL_PREFIX = "gateway."
_BATCH = 500
"""Items a turn: small enough that other connections get theirs, large enough that joining pays."""
_PASSED_OVER = 100
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


class Subscriber:
    """Reads `cursors` (one a stream, by name), lets through what `filter_` accepts, writes it as `wire` says."""

    def __init__(
        self,
        cursors: Sequence[Cursor],
        gaps: Sequence[Gap],
        filter_: Filter,
        wire: Wire,
        *,
        control: bool,
        timing: Timing,
        meter: Meter,
    ) -> None:
        self.cursors = tuple(cursors)
        self.filter = filter_
        self.wire = wire
        self.control = control
        self._gaps = tuple(gaps)
        self._accepts = predicate(filter_)
        self._timing = timing
        self._meter = meter
        self._bell = asyncio.Event()
        self.ending: Ending | None = None
        self._deadline = 0.0
        self._passed_over = 0
        self._replayed = 0
        self.caught_up = False

    def __repr__(self) -> str:
        lane = "at the tail" if self.caught_up else "replaying"
        return f"<Subscriber {self.filter!r} {lane} at {self.position}>"

    @property
    def position(self) -> str:
        """Where a client that has everything written so far resumes."""
        return format_position({cursor.stream: cursor.position for cursor in self.cursors})

    def end(self, ending: Ending) -> None:
        """Say goodbye and finish, as soon as the block being written is out."""
        if self.ending is None:
            self.ending = ending
            self._bell.set()

    async def blocks(self) -> AsyncIterator[bytes]:
        """Bytes for the connection, whole blocks only, until `end` is called."""
        for cursor in self.cursors:
            cursor.reader.listeners.add(self._bell.set)
        try:
            yield self._written(self.wire.opening(self._timing.retry_ms()))
            opening = b"".join(self._tell_gap(gap) for gap in self._gaps)
            if opening:
                yield self._written(opening)
            while self.ending is None:
                async for block in self._turn():
                    yield self._written(block)
            if self.ending.told and self.control:
                yield self._closing(self.ending)
        finally:
            for cursor in self.cursors:
                cursor.reader.listeners.discard(self._bell.set)

    async def _turn(self) -> AsyncIterator[bytes]:
        """Everything there is to read now; at the tail the wait for more."""
        self._bell.clear()
        moved = False
        for cursor in self.cursors:
            block, read = await self._read(cursor)
            moved = moved or read
            if block:
                yield block
        at_tail = not moved and all(cursor.at_tail for cursor in self.cursors)
        if at_tail and not self.caught_up:
            self.caught_up = True
            if self.control:
                yield self._control("gateway.caught-up", {"position": self.position, "replayed": self._replayed})
        if at_tail and not self._bell.is_set() and self.ending is None:
            await self._wait()
        if self._timing.clock() >= self._deadline:
            yield self._tick()

    async def _read(self, cursor: Cursor) -> tuple[bytes, bool]:
        """One batch of one stream: the bytes to write, and whether the position moved."""
        items = cursor.read_window(_BATCH)
        remember = items is not None
        if items is None:
            try:
                items = await cursor.read(_BATCH)
            except UNAVAILABLE:
                # The connection outlives Redis: go on from the same position when it is back.
                await self._pause()
                return b"", False
        if not items:
            return b"", False
        if self.caught_up:
            self._meter.lagged(self._timing.clock() - cursor.reader.read_at)
        return self._encode(cursor, items, remember), True

    def _encode(self, cursor: Cursor, items: Sequence[Item], remember: bool) -> bytes:
        wire, accepts, identify = self.wire, self._accepts, self._identifier(cursor)
        parts: list[bytes] = []
        events, last_match = 0, -1
        for at, item in enumerate(items):
            if isinstance(item, Event):
                if accepts(item):
                    parts.append(wire.identify(wire.body(item, remember), identify(item.id)))
                    events += 1
                    last_match = at
            elif isinstance(item, Gap):
                parts.append(self._tell_gap(item, identify(item.id)))
                last_match = at
            elif self.control and self.filter.could_accept(item):
                data = {"stream": item.stream, "id": format_id(item.id), "reason": item.reason}
                parts.append(wire.control("gateway.skipped", data, identify(item.id)))
                last_match = at
        passed = len(items) - 1 - last_match
        self._passed_over = passed if last_match >= 0 else self._passed_over + passed
        if not self.caught_up:
            self._replayed += events
        block = b"".join(parts)
        if events:
            self._meter.wrote(events, len(block), replay=not self.caught_up)
        return block

    def _identifier(self, cursor: Cursor) -> Callable[[int], str]:
        """Event id -> position, while the other streams stand still."""
        if len(self.cursors) == 1:
            return format_id
        marks = [f"{other.stream}@{format_id(other.position)}" for other in self.cursors]
        at = self.cursors.index(cursor)
        head = "".join(mark + "," for mark in marks[:at]) + cursor.stream + "@"
        tail = "".join("," + mark for mark in marks[at + 1 :])
        return lambda event_id: f"{head}{format_id(event_id)}{tail}"

    def _tell_gap(self, gap: Gap, position: str | None = None) -> bytes:
        self._meter.gap(gap.reason)
        if not self.control:
            return b""
        return self.wire.control("gateway.gap", describe_gap(gap), position or self.position)

    def _control(self, name: str, data: dict[str, Any]) -> bytes:
        self._passed_over = 0
        return self.wire.control(name, data, self.position)

    def _closing(self, ending: Ending) -> bytes:
        # Browsers give up for good on a proxy's 502, so after a drain they must not come back too early.
        retry_ms = round(3000 + 7000 * self._timing.jitter())
        data = {"reason": ending.reason, "reconnect": ending.reconnect}
        return self.wire.control("gateway.closing", data, self.position, retry_ms)

    def _tick(self) -> bytes:
        if self.control and self._passed_over >= _PASSED_OVER:
            return self._control("gateway.position", {"position": self.position})
        return self.wire.heartbeat

    def _written(self, block: bytes) -> bytes:
        self._deadline = self._timing.clock() + self._timing.heartbeat
        return block

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._bell.wait(), max(0.0, self._deadline - self._timing.clock()))
        except TimeoutError:
            return

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._bell.wait(), 0.2 + 0.3 * self._timing.jitter())
        except TimeoutError:
            return
