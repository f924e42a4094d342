"""Subscribers that want the same bytes: equal streams, filter, wire and control. Each batch is encoded for it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gateway.events.filter import Filter
from gateway.sse.frame import Wire
from gateway.stream.cursor import Place

if TYPE_CHECKING:
    from gateway.sse.subscriber import Subscriber

Places = dict[str, Place]
"""Where somebody stands, by stream."""


class CohortKey(NamedTuple):
    """What its members share."""

    streams: tuple[str, ...]
    filter: Filter
    wire: Wire
    control: bool


class Audience(NamedTuple):
    """Who was a member of a cohort at one instant."""

    cohort: Cohort
    by_descriptor: dict[int, Subscriber]
    by_transport: tuple[Subscriber, ...]
    departures: int
    before: Places
    """Where a member is left that cannot be written to."""

    def split(self, seen: int) -> tuple[Audience, Audience]:
        """Those who joined when the lane had seen up to `seen` items, and those who came later."""
        return self._only(lambda it: it.seen_at_join <= seen), self._only(lambda it: it.seen_at_join > seen)

    def _only(self, wanted: Callable[[Subscriber], bool]) -> Audience:
        found = {descriptor: member for descriptor, member in self.by_descriptor.items() if wanted(member)}
        return self._replace(by_descriptor=found, by_transport=tuple(filter(wanted, self.by_transport)))


class Cohort:
    """Members at the tail. Their common position is that of the live lane.

    `now` is monotonic seconds, `seen` how many items the lane has seen.
    """

    __slots__ = (
        "by_descriptor", "by_transport", "departures", "key", "last_write", "seen_at_id", "seen_at_join"
    )  # fmt: skip

    def __init__(self, key: CohortKey, now: float, seen: int) -> None:
        self.key = key
        self.by_descriptor: dict[int, Subscriber] = {}
        """Members that took all they were sent, by the descriptor of their socket."""
        self.by_transport: dict[Subscriber, None] = {}
        """Members with a backlog, or without a socket that may be written to."""
        self.departures = 0
        """How often one has left `by_descriptor`."""
        self.last_write = now
        self.seen_at_join = seen
        """When the newest member joined."""
        self.seen_at_id = seen
        """When this cohort was last sent an id."""

    def __repr__(self) -> str:
        return f"<Cohort {','.join(self.key.streams)} {self.key.filter!r} {len(self)} members>"

    def __len__(self) -> int:
        return len(self.by_descriptor) + len(self.by_transport)

    def place(self, member: Subscriber) -> None:
        """Put a member, a new one too, where it belongs now."""
        if member.descriptor is None or member.paused:
            self.remove(member)
            self.by_transport[member] = None
        else:
            self.by_transport.pop(member, None)
            self.by_descriptor[member.descriptor] = member

    def remove(self, member: Subscriber) -> None:
        """Let one go."""
        self.by_transport.pop(member, None)
        if member.descriptor is not None and self.by_descriptor.get(member.descriptor) is member:
            del self.by_descriptor[member.descriptor]
            self.departures += 1

    def audience(self, before: Places, seen: int) -> Audience:
        """Who is a member now and joined when the lane had seen `seen` items at most; see `Audience.before`."""
        everyone = Audience(self, self.by_descriptor.copy(), tuple(self.by_transport), self.departures, before)
        return everyone if self.seen_at_join <= seen else everyone.split(seen)[0]
