"""The log of this process: a reader for each stream in use, and cursors at any place in them.

Every way to say where to start ends here as a `Cursor` and, when events after that place are gone, a `Gap`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Event
from gateway.events.filter import GlobSet
from gateway.events.position import MAX, ZERO, EventId, before
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap, StreamInfo, verdict
from gateway.stream.pages import SharedPages
from gateway.stream.reader import Observer, Reader
from gateway.stream.store import Store
from gateway.stream.window import Window

_WARM_TIMEOUT = 10.0
_REAP_AFTER = 60.0


class NotServed(Exception):
    """The stream is not among those that this gateway serves."""


class NotReady(Exception):
    """Redis cannot be reached, or there are too many streams in use; try again later."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of a `Log`: of each window, and of what a process does at the same time."""

    window_events: int = 20_000
    window_bytes: int = 32 << 20
    max_replays: int = 64
    max_streams: int = 1_000
    """Streams read at the same time; those named without a glob always are."""


class Log:
    """Streams named by `served` (keys and globs, the first the default), read through connections of `open_tail`."""

    def __init__(
        self,
        store: Store,
        open_tail: Callable[[], Store],
        served: tuple[str, ...],
        limits: Limits,
        observer: Observer,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.store = store
        self.default_stream = served[0]
        self.served = GlobSet(served)
        self._open_tail = open_tail
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._jitter = jitter
        self._readers: dict[str, Reader] = {}
        self._idle_since: dict[str, float] = {}
        self._pages = SharedPages(store, limits.max_replays, clock)
        self._searches = asyncio.Semaphore(limits.max_replays)
        self._looks: dict[str, asyncio.Task[StreamInfo]] = {}

    def __repr__(self) -> str:
        return f"<Log {', '.join(map(repr, self._readers.values()))}>"

    @property
    def readers(self) -> tuple[Reader, ...]:
        """Of all streams in use."""
        return tuple(self._readers.values())

    @property
    def fixed_streams(self) -> tuple[str, ...]:
        """The streams that are served by name, not by a glob."""
        return tuple(name for name in self.served.globs if "*" not in name)

    def start(self) -> None:
        """Start the readers of the streams that are named without a glob."""
        for name in self.fixed_streams:
            self._start_reader(name)

    async def stop(self) -> None:
        """Stop all readers."""
        await self._pages.stop()
        await asyncio.gather(*(reader.stop() for reader in self._readers.values()))
        self._readers.clear()

    async def reader(self, stream: str) -> Reader:
        """The warm reader of `stream`, started when it is not running. Raises `NotServed`, `NotReady`."""
        if stream not in self.served:
            raise NotServed(stream)
        reader = self._readers.get(stream)
        if reader is None:
            if len(self._readers) >= self._limits.max_streams:
                raise NotReady(f"{len(self._readers)} streams are in use, and no more are allowed at the same time")
            reader = self._start_reader(stream)
        self._idle_since.pop(stream, None)
        if not await reader.ready(_WARM_TIMEOUT):
            raise NotReady("Redis cannot be reached")
        return reader

    async def reap(self) -> None:
        """Stop the readers of glob streams that nobody has listened to for a minute. Call it now and then."""
        now = self._clock()
        for name, reader in list(self._readers.items()):
            if reader.listeners or reader.users or name in self.fixed_streams:
                self._idle_since.pop(name, None)
            elif now - self._idle_since.setdefault(name, now) >= _REAP_AFTER:
                del self._readers[name], self._idle_since[name]
                await reader.stop()

    async def latest(self, stream: str) -> Cursor:
        """At the tail: only what comes from now on."""
        reader = await self.reader(stream)
        return self._cursor(reader, reader.window.tail)

    def tails(self, streams: Sequence[str]) -> list[Cursor] | None:
        """`latest` of each; None when one of them would have to be waited for, or is not served."""
        readers = [self._readers.get(stream) for stream in streams]
        found = [
            self._cursor(reader, reader.window.tail) for reader in readers if reader is not None and reader.is_ready
        ]
        if len(found) < len(readers):
            return None
        for stream in streams:
            self._idle_since.pop(stream, None)
        return found

    async def earliest(self, stream: str) -> Cursor:
        """Before the first entry that Redis still has."""
        reader = await self.reader(stream)
        return self._cursor(reader, (await self._look(reader)).start)

    async def at_time(self, stream: str, ms: int) -> tuple[Cursor, Gap | None]:
        """Before the first entry whose id is at or after Unix time `ms`; a time in the future is now."""
        reader = await self.reader(stream)
        info = await self._look(reader)
        position = min(before(EventId(ms << 64)), max(info.last_id, reader.window.tail))
        gap = verdict(stream, position, info) if position > ZERO and not info.lossless else None
        if gap is not None and gap.reason == "trimmed":
            return self._cursor(reader, gap.id), gap
        return self._cursor(reader, position), None

    async def after(self, stream: str, position: EventId) -> tuple[Cursor, Gap | None]:
        """After the event with this id, seen in an earlier connection: the exact continuation, or a gap.

        With Redis away the window answers alone, if it reaches back far enough; else raises what the store raises.
        """
        reader = await self.reader(stream)
        try:
            info = await self._look(reader)
        except UNAVAILABLE:
            if reader.window.covers(position):
                return self._cursor(reader, position), None
            raise
        gap = verdict(stream, position, info)
        if gap is not None and gap.reason == "trimmed" and _nothing_missed(reader.window, position, info):
            gap = None
        if gap is not None and gap.reason == "recreated":
            await reader.refresh()
            gap = verdict(stream, position, await self._look(reader))
        return self._cursor(reader, position if gap is None else gap.id), gap

    async def last(self, streams: list[str], n: int, wanted: Callable[[Event], bool] | None) -> list[Cursor]:
        """One cursor a stream, such that the newest `n` wanted events of all of them together come first."""
        readers = [await self.reader(stream) for stream in streams]
        found: list[tuple[EventId, str]] = []
        for stream in streams:
            found += [(event_id, stream) for event_id in await self._newest(stream, n, wanted)]
        keep = sorted(found)[-n:]
        first = {stream: event_id for event_id, stream in reversed(keep)}
        return [
            self._cursor(reader, before(first[reader.stream]) if reader.stream in first else reader.window.tail)
            for reader in readers
        ]

    async def _newest(self, stream: str, n: int, wanted: Callable[[Event], bool] | None) -> list[EventId]:
        found: list[EventId] = []
        until = MAX
        while True:
            async with self._searches:
                page, _ = await self.store.page_back(stream, until, 1000)
            found += [entry.id for entry in page if isinstance(entry, Event) and (wanted is None or wanted(entry))]
            if not page or len(found) >= n or page[-1].id == ZERO:
                return found[:n]
            until = before(page[-1].id)

    def _start_reader(self, stream: str) -> Reader:
        window = Window(self._limits.window_events, self._limits.window_bytes)
        reader = Reader(stream, self._open_tail(), window, self._observer, self._clock, self._jitter)
        self._readers[stream] = reader
        reader.start()
        return reader

    def _cursor(self, reader: Reader, position: EventId) -> Cursor:
        return Cursor(reader, self._pages, position, reader.window.epoch)

    async def _look(self, reader: Reader) -> StreamInfo:
        """The state of the stream, no older than what `reader` knows of it."""
        while True:
            tail, epoch = reader.window.tail, reader.window.epoch
            info = await self._look_after(reader, tail)
            # What was true of an earlier life would be taken for the truth about this one.
            if epoch == reader.window.epoch:
                return info

    async def _look_after(self, reader: Reader, tail: EventId) -> StreamInfo:
        info = await self._shared_look(reader.stream)
        if info.last_id < tail:  # it began before the tail came; the next one has not begun yet
            info = await self._shared_look(reader.stream)
        if info.last_id < tail:
            # Recreated: let the reader find out, or the cursor would begin in a life that is over.
            await reader.refresh()
            info = await self._shared_look(reader.stream)
        return info

    async def _shared_look(self, stream: str) -> StreamInfo:
        """One look at a time a stream: a storm of reconnects shares the answers."""
        task = self._looks.get(stream)
        if task is None:
            task = self._looks[stream] = asyncio.create_task(self.store.info(stream))
            task.add_done_callback(lambda _: self._looks.pop(stream, None))
        # shield: one impatient client must not cancel the look of all the others
        return await asyncio.shield(task)


def _nothing_missed(window: Window, position: EventId, info: StreamInfo) -> bool:
    """Whether the window proves that no event lies between `position` and the first one that Redis still has."""
    if not window.covers(position):
        return False
    following = window.after(position, 1)
    return not following or (info.first_id is not None and following[0].id >= info.first_id)
