"""The tail of one stream, handed out: each new event goes to the pumps that want it, and costs the others nothing.

Which endpoints want an event depends on its tenant, channel and type alone, so the answer is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from gateway.bridge.endpoint import Endpoint
from gateway.bridge.pump import Pump
from gateway.events.event import Event
from gateway.events.position import MAX, EventId
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.log import Log

log = logging.getLogger("gateway.bridge")

_MEMO: Final = 4096
_BATCH: Final = 1000


class Route(NamedTuple):
    """Who gets an event: pumps of this process; after which place an endpoint of any process lets events bring URLs."""

    pumps: tuple[Pump, ...]
    overridable_from: EventId


class Feed:
    """`cursor` stands at the tail. `everybody` are all endpoints of the stream, also those of other processes."""

    def __init__(self, stream_log: Log, cursor: Cursor, everybody: Callable[[str], Iterable[Endpoint]]) -> None:
        self.stream = cursor.stream
        self.pumps: dict[str, Pump] = {}
        self._log = stream_log
        self._cursor = cursor
        self._everybody = everybody
        self._memo: dict[tuple[str | None, str, str], Route] = {}
        self._after_next: list[Callable[[], None]] = []
        cursor.reader.listeners.add(self._ring)

    @property
    def position(self) -> EventId:
        """Everything up to here was handed out."""
        return self._cursor.position

    async def cursor(self, position: EventId) -> tuple[Cursor, Gap | None]:
        """A cursor of one's own, at `position`. Raises as `Log.after` does."""
        return await self._log.after(self.stream, position)

    def close(self) -> None:
        """Listen no more."""
        self._cursor.reader.listeners.discard(self._ring)

    def changed(self) -> None:
        """An endpoint or a pump came, went or changed."""
        self._memo.clear()

    def after_next(self, call: Callable[[], None]) -> None:
        """Call once when the tail has moved."""
        self._after_next.append(call)

    def route(self, event: Event) -> Route:
        """Who gets the event, as far as its tenant, channel and type decide."""
        key = (event.tenant, event.channel, event.type)
        route = self._memo.get(key)
        if route is None:
            if len(self._memo) >= _MEMO:  # attributes are the publisher's to choose; they must not grow our memory
                self._memo.clear()
            wanting = [it for it in self._everybody(self.stream) if not it.system and it.filter.accepts(*key)]
            since = min(
                (it.overridable_from for it in wanting if it.config.overridable and it.config.active), default=MAX
            )
            pumps = tuple(self.pumps[it.id] for it in wanting if it.id in self.pumps)
            route = self._memo[key] = Route(pumps, since)
        return route

    def brings_own_url(self, event: Event) -> bool:
        """Whether the event has a URL, and no endpoint whose place that URL takes."""
        return event.webhook_url is not None and event.id <= self.route(event).overridable_from

    def _ring(self) -> None:
        calls, self._after_next = self._after_next, []
        while True:
            items = self._cursor.read_window(_BATCH)
            if items is None:
                self._overrun()
                break
            if not items:
                break
            for item in items:
                if isinstance(item, Event):
                    self._hand_out(item)
                elif isinstance(item, Gap):
                    for pump in list(self.pumps.values()):
                        pump.fell(item)
        for call in calls:
            call()

    def _hand_out(self, event: Event) -> None:
        for pump in self.route(event).pumps:
            pump.offer(event)
        if event.webhook_url is not None and self.brings_own_url(event):
            for pump in list(self.pumps.values()):
                if pump.endpoint.system:
                    pump.offer(event)

    def _overrun(self) -> None:
        """The window dropped events before we saw them: everyone reads for himself until he is at the tail again."""
        for pump in self.pumps.values():
            pump.suspend()
        self._cursor.position = self._cursor.reader.window.tail
