"""Older entries from Redis, read once for all who want them at about the same time.

After an outage thousands of clients come back with nearly the same position.  A page that was just read is kept for a
moment, and whoever stands inside it is served from it; one page a stream is read at a time, so those who wait find
that theirs is there.  A storm of reconnects then costs Redis about one pass over the range.

Whoever reads page after page has the next one read while this one is encoded and sent.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Entry
from gateway.events.position import EventId
from gateway.stream.gap import StreamInfo
from gateway.stream.pace import payload_bytes
from gateway.stream.window import Window

log = logging.getLogger("gateway.pages")

_OVERHEAD = 800
"""Bytes that an entry costs beside its payload."""


class Source(Protocol):
    """Where pages are read: `gateway.stream.store.Store`."""

    async def page(self, stream: str, after: EventId, count: int) -> tuple[list[Entry], StreamInfo]: ...


class Page:
    """All entries after `start`, up to the last one here, as they were when `info` was true.

    `epoch` is the life of the stream as the reader knew it then (`gateway.stream.window.Window.epoch`).
    """

    __slots__ = ("__weakref__", "entries", "epoch", "ids", "info", "payload", "read_at", "size", "start")

    def __init__(self, start: EventId, epoch: int, entries: list[Entry], info: StreamInfo, read_at: float) -> None:
        self.start = start
        self.epoch = epoch
        self.entries = entries
        self.ids = [entry.id for entry in entries]
        self.info = info
        self.read_at = read_at
        self.payload = payload_bytes(entries)
        self.size = self.payload + _OVERHEAD * len(entries)

    @property
    def first_index(self) -> int:
        """The index of the oldest entry (see `gateway.stream.window.Window.first_index`)."""
        return 0

    def serves(self, position: EventId, epoch: int) -> bool:
        """Whether entries after `position` are here."""
        return self.epoch == epoch and bool(self.ids) and self.start <= position < self.ids[-1]


class Part(NamedTuple):
    """Entries `page.entries[at:]`, at most as many as were asked for."""

    page: Page
    at: int
    entries: list[Entry]
    reborn: bool
    """The end of the stream went back while it was read: a new life, which its reader may not know of yet."""


class SharedPages:
    """Pages of `source`. `limit` is how many may be read at the same time, of all streams together.

    A page is kept for `seconds`, and at most `size` bytes altogether. `clock` is monotonic seconds.
    """

    def __init__(
        self, source: Source, limit: int, clock: Callable[[], float], seconds: float = 30.0, size: int = 16 << 20
    ) -> None:
        self._source = source
        self._clock = clock
        self._seconds = seconds
        self._most = size
        self._size = 0
        self._kept: OrderedDict[tuple[str, EventId], Page] = OrderedDict()
        self._of: defaultdict[str, list[Page]] = defaultdict(list)
        self._limit = asyncio.Semaphore(limit)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ahead: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<SharedPages {len(self._kept)} pages, {self._size} bytes>"

    async def page(self, window: Window, stream: str, after: EventId, epoch: int, most: int, count: int) -> Part:
        """Up to `most` entries after `after` in this life of the stream; `count` are read where none are known.

        `window` is where the stream is read on to.  Raises what the source raises when Redis is away.
        """
        part = self._known(stream, after, epoch, most)
        if part is not None:
            return part
        turn = self._turns[stream]
        try:
            async with turn:
                part = self._known(stream, after, epoch, most)
                if part is None:
                    part = await self._read(window, stream, after, epoch, most, count)
        finally:
            if not turn.locked() and stream not in self._of:
                self._turns.pop(stream, None)
        return part

    async def _read(self, window: Window, stream: str, after: EventId, epoch: int, most: int, count: int) -> Part:
        async with self._limit:
            tail = window.tail
            entries, info = await self._source.page(stream, after, count)
        page = Page(after, epoch, entries, info, self._clock())
        reborn = info.last_id < tail
        if not reborn:
            self._keep(stream, page)
        return Part(page, 0, entries[:most], reborn)

    async def read_ahead(self, window: Window, stream: str, page: Page, count: int) -> None:
        """Begin to read what follows `page`, unless the window has it, or it is being read. Does not wait for it."""
        if stream in self._ahead or not page.ids or page.ids[-1] >= min(window.floor, page.info.last_id):
            return
        if self._known(stream, page.ids[-1], page.epoch, 1) is None:
            work = self._page_ahead(window, stream, page.ids[-1], page.epoch, count)
            self._ahead[stream] = asyncio.create_task(work, name=f"read-ahead:{stream}")
            # Two turns, and the question is on its way: Redis answers while the caller encodes what it has (a replay
            # got a sixth to a half faster).
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _page_ahead(self, window: Window, stream: str, after: EventId, epoch: int, count: int) -> None:
        try:
            await self.page(window, stream, after, epoch, 1, count)
        except UNAVAILABLE as error:  # whoever comes to read it will find out
            log.debug("pages.not_ahead stream=%s error=%r", stream, error)
        finally:
            del self._ahead[stream]

    async def stop(self) -> None:
        """End what is being read ahead."""
        for task in tuple(self._ahead.values()):
            task.cancel()
        await asyncio.gather(*self._ahead.values(), return_exceptions=True)

    def _known(self, stream: str, after: EventId, epoch: int, count: int) -> Part | None:
        self._expire()
        for page in self._of.get(stream, ()):
            if page.serves(after, epoch):
                index = bisect_right(page.ids, after)
                return Part(page, index, page.entries[index : index + count], reborn=False)
        return None

    def _keep(self, stream: str, page: Page) -> None:
        key = (stream, page.start)
        if not page.entries:
            return
        if key in self._kept:
            self._drop(key)
        self._kept[key] = page
        self._of[stream].append(page)
        self._size += page.size
        while self._size > self._most and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _expire(self) -> None:
        oldest = self._clock() - self._seconds
        while self._kept and next(iter(self._kept.values())).read_at < oldest:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: tuple[str, EventId]) -> None:
        page = self._kept.pop(key)
        self._size -= page.size
        pages = self._of[key[0]]
        pages.remove(page)
        if not pages:
            del self._of[key[0]]
