"""The reader of one stream: one task and one connection a process, however many subscribers there are.

It always reads from a concrete id, never ``$``: a ``$`` that is issued again loses what came between (redis#5381).
While Redis is away it waits with jittered backoff and goes on from the last id.  Each read brings the state of the
stream with it, so that a stream that was deleted, recreated, renamed away or trimmed past us is noticed at once:
XREAD alone would wait for ever, or skip the hole in silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Entry
from gateway.events.position import MAX, ZERO, EventId, before, format_id
from gateway.stream.gap import Gap, StreamInfo
from gateway.stream.pace import Pace, payload_bytes
from gateway.stream.window import Item, Window

log = logging.getLogger("gateway.reader")

_BLOCK_MS = 1000
_BACKOFF_FIRST, _BACKOFF_LAST = 0.02, 1.0


class Source(Protocol):
    """What a reader needs of `gateway.stream.store.Store`."""

    async def tail(self, stream: str, after: EventId, count: int, block_ms: int) -> tuple[list[Entry], StreamInfo]: ...
    async def page_back(self, stream: str, until: EventId, count: int) -> tuple[list[Entry], StreamInfo]: ...


class Observer(Protocol):
    """Whoever counts: `gateway.app` ties it to metrics."""

    def read(self, entries: Sequence[Entry]) -> None: ...
    def lost(self, stream: str) -> None: ...
    def regained(self, stream: str) -> None: ...


class Reader:
    """Keeps the window of `stream` at the tail. `clock` is monotonic seconds; `jitter` is random in [0, 1)."""

    def __init__(
        self,
        stream: str,
        source: Source,
        window: Window,
        observer: Observer,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.stream = stream
        self.window = window
        self.listeners: set[Callable[[], None]] = set()
        """Called after each change of the window; they must not block and not raise."""
        self.users: set[object] = set()
        """Whoever stands in the stream without listening; the reader is not to be stopped under them."""
        self.connected = False
        self.born = ZERO
        """Where the present life of the stream begins, for positions of an earlier epoch."""
        self.shortened = False
        """Whether the present life is the last one without its end: positions up to `born` are still good."""
        self.read_at = clock()
        """When the newest batch came."""
        self._source = source
        self._observer = observer
        self._clock = clock
        self._jitter = jitter
        self._ordinal: int | None = None  # how many entries had ever been added when the tail entry was added
        self._first: EventId | None = None  # the oldest entry that the stream had when it was looked at
        self._pace = Pace()
        self._ready = asyncio.Event()
        self._looked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "connected" if self.connected else "disconnected"
        return f"<Reader {self.stream} {state} tail={format_id(self.window.tail)} {self.window!r}>"

    def start(self) -> None:
        """Begin to read, in a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"reader:{self.stream}")

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_ready(self) -> bool:
        """Whether the window is warm."""
        return self._ready.is_set()

    async def ready(self, timeout: float) -> bool:
        """Wait until the window is warm, at most `timeout` seconds."""
        if self._ready.is_set():
            return True
        try:
            await asyncio.wait_for(self._ready.wait(), timeout)
        except TimeoutError:
            return False
        return True

    async def refresh(self) -> None:
        """Wait until the stream was looked at once more: about 1 s at most while Redis is there, 2 s if it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _BLOCK_MS / 1000):
                await self._looked.wait()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                if not self._ready.is_set():
                    await self._warm()
                    self._ready.set()
                    self._regained(failures)
                tail = self.window.tail
                entries, info = await self._source.tail(self.stream, tail, self._pace.count, _BLOCK_MS)
                if not self.connected:
                    self._regained(failures)
                failures = 0
                self._pace.saw(len(entries), payload_bytes(entries))
                self._advance(entries, info)
                if not entries and info.last_id > self.window.tail:
                    await self._pass_over_deleted()
                self._looked.set()
                self._looked = asyncio.Event()
            except UNAVAILABLE as error:
                failures += 1
                self._lost(failures, error)
                await self._back_off(failures)
            except Exception:
                # A reader that ends stops every subscriber of the stream in silence. Whatever this is, go on.
                failures += 1
                log.exception("reader.failed stream=%s", self.stream)
                await self._back_off(failures + 10)

    async def _back_off(self, failures: int) -> None:
        # Under 2 s: back soon after Redis is. Above 0: never a busy loop.
        ceiling = min(_BACKOFF_LAST, _BACKOFF_FIRST * 2 ** min(failures, 10))
        await asyncio.sleep(ceiling * (0.5 + self._jitter() / 2))

    def _lost(self, failures: int, error: BaseException) -> None:
        if self.connected or failures == 1:
            log.warning("redis.lost stream=%s after=%s error=%r", self.stream, format_id(self.window.tail), error)
            self._observer.lost(self.stream)
        self.connected = False

    def _regained(self, failures: int) -> None:
        if failures:
            log.info("redis.regained stream=%s failures=%d", self.stream, failures)
        self.connected = True
        self._observer.regained(self.stream)

    async def _warm(self) -> None:
        """Fill the window backwards from the tail, a page at a time, until it is full or the stream is at its start."""
        window, pages, loaded = self.window, [], 0
        page, info = await self._source.page_back(self.stream, MAX, self._pace.count)
        tail, ordinal = info.last_id, info.entries_added
        while page:
            self._pace.saw(len(page), payload_bytes(page))
            pages.append(page[::-1])
            loaded += len(page)
            if window.would_overflow(loaded, self._pace.bytes_seen) or page[-1].id <= ZERO:
                break
            page, _ = await self._source.page_back(self.stream, before(page[-1].id), self._pace.count)
        entries = [entry for page in reversed(pages) for entry in page]
        window.reset(before(entries[0].id) if entries else tail, tail)
        window.extend(entries, tail)
        self._ordinal, self._first = ordinal, info.first_id

    def _advance(self, entries: list[Entry], info: StreamInfo) -> None:
        tail = entries[-1].id if entries else self.window.tail
        another = info.last_id < tail or self._renumbered(entries, info) or self._older(info)
        if info.first_id is not None:
            self._first = info.first_id
        if another:
            self._begin_new_life(info)
        elif entries:
            items: list[Item] = [*self._hole(entries, info), *entries]
            self.read_at = self._clock()
            self._observer.read(entries)
            self.window.extend(items, tail)
            self._ring()

    async def _pass_over_deleted(self) -> None:
        """Move the tail to the last id ever given, if its entry is gone: clients may stand there, and wait for us."""
        page, info = await self._source.page_back(self.stream, MAX, 1)
        newest = page[0].id if page else ZERO
        if newest <= self.window.tail < info.last_id and not self._renumbered([], info) and not self._older(info):
            self.window.extend([], info.last_id)
            self._ring()

    def _hole(self, entries: list[Entry], info: StreamInfo) -> list[Gap]:
        """The gap before `entries`, if somebody trimmed what we had not read: known by counting entries ever added.

        The count belongs to the last entry of the stream. When more were added between the read and the look, the
        verdict waits for a read that reaches the end.
        """
        if self._ordinal is None or info.entries_added is None:
            return []
        before_first = before(entries[0].id)
        missed = 0
        if info.last_id == entries[-1].id:
            missed = info.entries_added - self._ordinal - len(entries)
            self._ordinal = info.entries_added
        else:
            self._ordinal += len(entries)
        if missed <= 0 or before_first <= self.window.tail:
            return []
        log.warning("stream.gap stream=%s missed=%d after=%s", self.stream, missed, format_id(self.window.tail))
        return [Gap(before_first, self.stream, self.window.tail, "trimmed")]

    def _renumbered(self, entries: list[Entry], info: StreamInfo) -> bool:
        """Whether fewer entries were ever added than we have read: these are another stream's under the same name."""
        if self._ordinal is None or info.entries_added is None:
            return False
        return info.entries_added < self._ordinal + len(entries)

    def _older(self, info: StreamInfo) -> bool:
        """Whether the first entry is not what it can be: it only ever moves up, and stays in a stream that lost none.

        Unless the end is the same: then a server came back without its last trim.
        """
        if self._first is None or info.first_id is None or info.first_id == self._first:
            return False
        if info.last_id == self.window.tail and info.entries_added == self._ordinal:
            return False
        return info.first_id < self._first or info.lossless

    def _begin_new_life(self, info: StreamInfo) -> None:
        # A replica that was promoted with its last entries missing is the same stream, a little shorter: going on at
        # its end is right there. Otherwise all that is in the key is new.
        rolled_back = self.window.holds(info.last_id)
        self.born = info.last_id if rolled_back else info.start
        self.shortened = rolled_back
        log.warning(
            "stream.recreated stream=%s was_at=%s goes_on_at=%s rolled_back=%s",
            self.stream,
            format_id(self.window.tail),
            format_id(self.born),
            rolled_back,
        )
        self.window.reset(self.born, self.born)
        self.window.epoch += 1
        self._ordinal = info.entries_added
        if self._ordinal is not None and not rolled_back:
            self._ordinal -= info.length
        self._ring()

    def _ring(self) -> None:
        for listener in tuple(self.listeners):
            listener()
