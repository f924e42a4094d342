"""All ways through the log that one endpoint has at the moment: its own, and its replays."""

from __future__ import annotations

from collections.abc import Callable

from gateway.bridge.ahead import Ahead
from gateway.bridge.job import Job
from gateway.bridge.lane import Lane
from gateway.events.event import Event
from gateway.events.position import EventId


class Lanes:
    """`main` is the endpoint's own; replays come after it, oldest first."""

    def __init__(self, position: EventId, ahead: Ahead, tail: Callable[[], EventId]) -> None:
        self.main = Lane(position, tail, ahead=ahead)
        self._tail = tail
        self._all = [self.main]

    def take(self) -> tuple[Event, Lane] | None:
        """The next event, from the first lane that has one."""
        for lane in self._all:
            event = lane.take()
            if event is not None:
                return event, lane
        return None

    @property
    def queued(self) -> bool:
        """Whether `take` has one."""
        return any(lane.queued for lane in self._all)

    @property
    def hungry(self) -> list[Lane]:
        """Those that have to be read for."""
        return [lane for lane in self._all if lane.wants_events]

    @property
    def any_hungry(self) -> bool:
        """Whether there are any."""
        return self.main.wants_events or (len(self._all) > 1 and bool(self.hungry))

    def suspend(self) -> None:
        """Forget what is not started; it stays in the log."""
        for lane in self._all:
            lane.suspend()

    def replay(self, job: Job) -> None:
        """A replay was asked for, found at the start, or ended from outside."""
        known = next((lane for lane in self._all if lane.job is not None and lane.job.id == job.id), None)
        if job.status == "running":
            if known is None:
                self._all.append(Lane(job.position, self._tail, job))
        elif known is not None:
            self._all.remove(known)

    def progress(self) -> list[Job]:
        """The replays that have moved since the last call; those that are done leave."""
        moved = [(lane, job) for lane in self._all if (job := lane.progress()) is not None]
        for lane, job in moved:
            if job.status == "done":
                self._all.remove(lane)
        return [job for _, job in moved]
