"""Subscribers that want the same bytes: equal streams, filter, wire and control. Each batch is encoded for it once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.events.filter import Filter
from gateway.sse.frame import Wire
from gateway.sse.sweep import Audience, Places

if TYPE_CHECKING:
    from gateway.sse.subscriber import Subscriber


class CohortKey(NamedTuple):
    """What its members share."""

    streams: tuple[str, ...]
    filter: Filter
    wire: Wire
    control: bool


class Cohort:
    """Members at the tail. Their common position is that of the live lane."""

    __slots__ = ("departures", "joined_at", "key", "last_id_at", "last_write", "others", "ready")

    def __init__(self, key: CohortKey, now: float, count: int) -> None:
        self.key = key
        self.ready: dict[int, Subscriber] = {}
        """Members that took all they were sent, by the descriptor of their socket."""
        self.others: dict[Subscriber, None] = {}
        """Members with a backlog, or without a socket that may be written to."""
        self.departures = 0
        """How often a member ceased to be ready."""
        self.joined_at = count
        """How many items the lane had seen when the newest member joined."""
        self.last_write = now
        """Monotonic seconds."""
        self.last_id_at = count
        """How many items the lane had seen when this cohort was last sent an id."""

    def __repr__(self) -> str:
        return f"<Cohort {','.join(self.key.streams)} {self.key.filter!r} {len(self)} members>"

    def __len__(self) -> int:
        return len(self.ready) + len(self.others)

    def place(self, member: Subscriber) -> None:
        """Put a member, a new one too, where it belongs now."""
        if member.descriptor is None or member.paused:
            self.remove(member)
            self.others[member] = None
        else:
            self.others.pop(member, None)
            self.ready[member.descriptor] = member

    def remove(self, member: Subscriber) -> None:
        """Let one go."""
        self.others.pop(member, None)
        if member.descriptor is not None and self.ready.get(member.descriptor) is member:
            del self.ready[member.descriptor]
            self.departures += 1

    def audience(self, before: Places, upto: int) -> Audience:
        """Who is a member now and joined when the lane had seen `upto` items at most; see `Audience.before`."""
        everyone = Audience(self, self.ready.copy(), tuple(self.others), before)
        return everyone if self.joined_at <= upto else everyone.split(upto)[0]


class _Shelf:
    """Cohorts that have to be asked, and what they answered.

    Memoised. A new cohort does not void the memo: each remembered route catches up with the cohorts that came after
    it when it is next used.
    """

    _MOST = 4096  # attributes are the publisher's to choose: they must not grow our memory

    __slots__ = ("_cohorts", "_gone", "_memo", "_places")

    def __init__(self) -> None:
        self._cohorts: list[Cohort | None] = []
        self._places: dict[Cohort, int] = {}
        self._gone = 0
        self._memo: dict[tuple[str | None, str, str], tuple[int, int, list[Cohort]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, cohort: Cohort) -> None:
        self._places[cohort] = len(self._cohorts)
        self._cohorts.append(cohort)

    def remove(self, cohort: Cohort) -> None:
        self._cohorts[self._places.pop(cohort)] = None
        self._gone += 1
        if len(self._cohorts) > 2 * len(self._places) + 64:
            self._cohorts = list(self._places)
            self._places = {kept: at for at, kept in enumerate(self._places)}
            self._memo.clear()

    def to(self, tenant: str | None, channel: str, type_: str) -> list[Cohort]:
        key = (tenant, channel, type_)
        known = self._memo.get(key)
        if known is not None and known[0] == len(self._cohorts) and known[1] == self._gone:
            return known[2]
        upto, _, cohorts = known or (0, 0, [])
        cohorts = [cohort for cohort in cohorts if cohort in self._places]
        for cohort in self._cohorts[upto:]:
            if cohort is not None and cohort.key.filter.accepts(tenant, channel, type_):
                cohorts.append(cohort)
        if len(self._memo) >= self._MOST:
            self._memo.clear()
        self._memo[key] = (len(self._cohorts), self._gone, cohorts)
        return cohorts


_Place = tuple[str, str | None]
_EVERY: _Place = ("", None)


def _places(filter_: Filter) -> list[_Place]:
    """Where a filter is kept: under the exact channels it is limited to, else its exact types, its tenant, or all."""
    for kind, globs in (
        ("channel", filter_.channels),
        ("channel", filter_.allowed_channels),
        ("type", filter_.types),
        ("type", filter_.allowed_types),
    ):
        if globs is not None and globs.exact is not None:
            return [(kind, name) for name in globs.exact]
    return [_EVERY if filter_.tenant is None else ("tenant", filter_.tenant)]


class Routes:
    """From (tenant, channel, type) to the cohorts that want it: so an event costs what it matches.

    A filter that names what it wants exactly is only asked about events that have that name: with 10,000 subscribers
    to a channel each, the first event of a channel would otherwise ask all of them, 4 ms at a time.
    """

    def __init__(self) -> None:
        self._cohorts: dict[Cohort, None] = {}
        self._shelves: dict[_Place, _Shelf] = {}

    def __len__(self) -> int:
        return len(self._cohorts)

    def __iter__(self) -> Iterator[Cohort]:
        return iter(tuple(self._cohorts))

    def add(self, cohort: Cohort) -> None:
        """Route to `cohort` too."""
        self._cohorts[cohort] = None
        for place in _places(cohort.key.filter):
            self._shelves.setdefault(place, _Shelf()).add(cohort)

    def remove(self, cohort: Cohort) -> None:
        """Route to it no more."""
        del self._cohorts[cohort]
        for place in _places(cohort.key.filter):
            shelf = self._shelves[place]
            shelf.remove(cohort)
            if not len(shelf):
                del self._shelves[place]

    def to(self, tenant: str | None, channel: str, type_: str) -> list[Cohort]:
        """The cohorts whose filter accepts such an event."""
        found: list[Cohort] = []
        for place in (_EVERY, ("channel", channel), ("type", type_), ("tenant", tenant)):
            shelf = self._shelves.get(place)
            if shelf is not None:
                more = shelf.to(tenant, channel, type_)
                found = found + more if found else more
        return found
