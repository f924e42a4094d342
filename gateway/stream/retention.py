"""Keeping streams bounded: trims by count and by age, also streams that only raw XADD feeds.

One process at a time does it, whoever takes the lock; the others find it taken. A lock that outlives its process
expires by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.backend.connection import UNAVAILABLE, ResponseError
from gateway.events.filter import GlobSet
from gateway.events.position import EventId, make_id
from gateway.stream.store import Store

log = logging.getLogger("gateway.retention")

_LOCK_KEY = "gateway:retention"


class Retention:
    """Trims the streams that match `served` every `interval` seconds. 0 for a limit means none.

    `now` is Unix time in seconds. `trimmed` is told how many entries went. `awaited` answers for a stream the position
    of the slowest reader that must not lose anything, or None: what lies after it stays, as long as the stream has no
    more than `max_kept` entries.
    """

    def __init__(
        self,
        store: Store,
        served: GlobSet,
        *,
        max_events: int,
        max_age: float,
        interval: float,
        now: Callable[[], float],
        trimmed: Callable[[int], None],
        awaited: Callable[[str], Awaitable[EventId | None]] | None = None,
        max_kept: int = 0,
    ) -> None:
        self._store = store
        self._served = served
        self._max_events = max_events
        self._max_age = max_age
        self._interval = interval
        self._now = now
        self._trimmed = trimmed
        self._awaited = awaited
        self._max_kept = max_kept

    async def run(self) -> None:
        """Trim now and then, for ever."""
        if not self._max_events and not self._max_age:
            return
        while True:
            try:
                if await self._store.lock(_LOCK_KEY, self._interval):
                    await self.trim_all()
            except UNAVAILABLE as error:
                log.debug("retention.skipped error=%r", error)
            await asyncio.sleep(self._interval)

    async def trim_all(self) -> int:
        """Trim every stream once; answer how many entries went."""
        oldest = make_id(max(0, int((self._now() - self._max_age) * 1000))) if self._max_age else EventId(0)
        removed = 0
        for stream in await self._store.keys(self._served):
            try:
                removed += await self._trim(stream, oldest)
            except ResponseError as error:
                # A key of that name that is no stream must not keep the others from being trimmed.
                log.debug("retention.refused stream=%s error=%r", stream, error)
        if removed:
            self._trimmed(removed)
            log.info("retention.trimmed events=%d", removed)
        return removed

    async def _trim(self, stream: str, oldest: EventId) -> int:
        slowest = None if self._awaited is None else await self._awaited(stream)
        if slowest is None:
            return await self._store.trim(stream, max_events=self._max_events, min_id=oldest)
        settled = EventId(slowest + 1)
        removed = await self._store.trim(stream, max_events=self._max_kept, min_id=min(oldest, settled))
        if self._max_events:
            removed += await self._store.trim_below(stream, max_events=self._max_events, min_id=settled)
        return removed
