"""A way through the log for one endpoint: from its position on, or once more over a part of it (a replay).

A lane at the tail is *live*: the feed hands it the events that match, and no one else's cost it anything.  A lane that
is behind reads with a cursor of its own.  Either way it keeps a few events in memory and everything else in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.bridge.ahead import NOTHING, Ahead
from gateway.bridge.job import Job
from gateway.events.event import Event
from gateway.events.position import EventId, before
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap

QUEUE: Final = 256
"""Events a lane holds in memory, at most about twice."""
_READ: Final = 256


class Lane:
    """`job` is None for the endpoint's own way. `tail` tells how far the feed has come.

    `ahead` is what an earlier owner had settled beyond `position`.
    """

    def __init__(
        self, position: EventId, tail: Callable[[], EventId], job: Job | None = None, ahead: Ahead = NOTHING
    ) -> None:
        self.job = job
        self.live = False
        self.cursor: Cursor | None = None
        self.finished = False
        self.life = 0
        """Counts lives of the stream: what was started in an earlier one says nothing about the position."""
        self._tail = tail
        self._scanned = position
        self._queue: deque[Event] = deque()
        self._started: dict[EventId, None] = {}
        self._before = ahead
        self.waiting = False
        """Until the feed has come to where this lane is."""
        self._taken = 0

    @property
    def queued(self) -> int:
        """Events in memory that are not started."""
        return len(self._queue)

    @property
    def wants_events(self) -> bool:
        """Whether it has to be read for."""
        return not (self.live or self.finished or self.waiting) and len(self._queue) < QUEUE // 4

    @property
    def at_end(self) -> bool:
        """Whether its cursor has nothing more to read now."""
        return self.cursor is not None and self.cursor.at_tail and not self.finished

    def progress(self) -> Job | None:
        """The replay as it stands, if it has moved since the last call; its status is ``done`` at the end."""
        job = self.job
        if job is None:
            return None
        position = self.low_water()
        done = self.finished and not self._queue and not self._started
        if position == job.position and not done:
            return None
        status = "done" if done else "running"
        self.job = replace(job, position=position, status=status, delivered=job.delivered + self._taken)
        self._taken = 0
        return self.job

    @property
    def scanned(self) -> EventId:
        """Everything up to here was looked at."""
        return self._tail() if self.live else self._scanned

    def low_water(self) -> EventId:
        """The position to store: everything at or before it is settled."""
        for event_id in self._started:  # in order of id, as they were taken
            return before(event_id)
        return before(self._queue[0].id) if self._queue else self.scanned

    def ahead(self) -> Ahead:
        """What is settled beyond `low_water`: one attempt that hangs holds the position back, not what comes after."""
        reached = before(self._queue[0].id) if self._queue else self.scanned
        until = max(reached, self._before.until)
        unread = [event_id for event_id in self._before.open if event_id > self.scanned]
        queued = [event.id for event in self._queue if event.id <= until] if until > reached else []
        still_open = (*self._started, *queued, *unread)
        return Ahead(until, frozenset(still_open)) if still_open or until > reached else NOTHING

    def offer(self, event: Event) -> bool:
        """Take an event at the tail; False when the lane is not live, or has just fallen behind."""
        if not self.live or self._before.settled(event.id):
            return False
        if len(self._queue) >= QUEUE:
            self.live = False
            self._scanned = self._queue[-1].id
            return False
        self._queue.append(event)
        return True

    def take(self) -> Event | None:
        """The next event, which is in flight from now on."""
        if not self._queue:
            return None
        event = self._queue.popleft()
        self._started[event.id] = None
        self._taken += 1
        return event

    def settled(self, event_id: EventId, life: int) -> None:
        """The event was delivered, or is safe in the retry ledger."""
        if life == self.life:
            self._started.pop(event_id, None)

    def suspend(self) -> None:
        """Forget what is not started; it stays in the log."""
        if self._queue:
            self._scanned = before(self._queue[0].id)
            self._queue.clear()
        else:
            self._scanned = self.scanned
        self.live = False
        self.cursor = None

    def fell(self, gap: Gap) -> None:
        """Go on after a hole."""
        if gap.shortened:
            self._shorten(gap.id)
            return
        if gap.reason == "recreated":
            self.life += 1
            self._before = NOTHING
            self._started.clear()
            self._queue.clear()
        if self.job is not None and gap.reason == "recreated":
            self.finished = True
        self._scanned = max(self._scanned, gap.id) if gap.reason == "trimmed" else gap.id

    def _shorten(self, end: EventId) -> None:
        """The stream lost what came after `end`; all else is as it was."""
        self._queue = deque(event for event in self._queue if event.id <= end)
        self._started = {event_id: None for event_id in self._started if event_id <= end}
        still_open = frozenset(event_id for event_id in self._before.open if event_id <= end)
        self._before = Ahead(min(self._before.until, end), still_open)
        self._scanned = min(self._scanned, end)

    async def read(self, wants: Callable[[Event], bool]) -> list[Gap]:
        """Look at the next part of the log through the cursor; the holes that were met."""
        cursor = self.cursor
        if cursor is None:
            raise ValueError("no cursor to read with")
        gaps: list[Gap] = []
        items = await cursor.read(_READ)
        if self.cursor is not cursor:  # suspended meanwhile: what was read stays in the log
            return gaps
        for item in items:
            if isinstance(item, Gap):
                gaps.append(item)
                self.fell(item)
            elif self.job is not None and item.id > self.job.until:
                self.finished = True
                break
            elif isinstance(item, Event) and wants(item) and not self._before.settled(item.id):
                self._queue.append(item)
        self._scanned = cursor.position
        if self.job is not None:
            self._scanned = min(self._scanned, self.job.until)
            self.finished = self.finished or cursor.position >= self.job.until or cursor.at_tail
        elif cursor.at_tail and self._tail() == cursor.position:
            self.live, self.cursor = True, None
        return gaps
