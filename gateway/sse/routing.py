"""From an event to the cohorts that want it, at the cost of what it matches and not of what exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gateway.events.filter import Filter, GlobSet
from gateway.sse.cohort import Cohort


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

    def to(self, tenant: str | None, channel: str, type_: str) -> tuple[list[Cohort], int]:
        """The cohorts that want such an event, and how many had to be asked."""
        key = (tenant, channel, type_)
        known = self._memo.get(key)
        if known is not None and known[0] == len(self._cohorts) and known[1] == self._gone:
            return known[2], 0
        upto, _, cohorts = known or (0, 0, [])
        cohorts = [cohort for cohort in cohorts if cohort in self._places]
        for cohort in self._cohorts[upto:]:
            if cohort is not None and cohort.key.filter.accepts(tenant, channel, type_):
                cohorts.append(cohort)
        if len(self._memo) >= self._MOST:
            self._memo.clear()
        self._memo[key] = (len(self._cohorts), self._gone, cohorts)
        return cohorts, len(self._cohorts) - upto + len(cohorts)


_Place = tuple[str, str | None]
"""What is looked at, and what it is, or (for ``channel*`` and ``type*``) begins with."""
_EVERY: _Place = ("", None)


def _by_text(kind: str, globs: GlobSet | None) -> list[_Place]:
    """The places of globs that all begin with something; none if one may match whatever there is."""
    if globs is None or "" in globs.heads:
        return []
    return [*((kind, name) for name in globs.exact), *((f"{kind}*", head) for head in globs.heads)]


def _places(filter_: Filter) -> list[_Place]:
    """Where a filter is kept: under the channels or else the types it is limited to, else its tenant, or all."""
    return (
        _by_text("channel", filter_.channels)
        or _by_text("channel", filter_.allowed_channels)
        or _by_text("type", filter_.types)
        or _by_text("type", filter_.allowed_types)
        or [_EVERY if filter_.tenant is None else ("tenant", filter_.tenant)]
    )


class Routes:
    """From (tenant, channel, type) to the cohorts that want it.

    A filter that says how what it wants begins is asked about such events only: with 10,000 subscribers to a channel
    each, the first event of a channel would otherwise ask all of them, 4 ms at a time.
    """

    def __init__(self) -> None:
        self.asked = 0
        """How many filters were ever asked."""
        self._cohorts: dict[Cohort, None] = {}
        self._shelves: dict[_Place, _Shelf] = {}
        self._lengths: dict[str, Counter[int]] = {"channel*": Counter(), "type*": Counter()}
        """Of the beginnings under which there are shelves."""

    def __len__(self) -> int:
        return len(self._cohorts)

    def __iter__(self) -> Iterator[Cohort]:
        return iter(tuple(self._cohorts))

    def add(self, cohort: Cohort) -> None:
        """Route to `cohort` too."""
        self._cohorts[cohort] = None
        for place in _places(cohort.key.filter):
            shelf = self._shelves.get(place)
            if shelf is None:
                shelf = self._shelves[place] = _Shelf()
                self._count(place, 1)
            shelf.add(cohort)

    def remove(self, cohort: Cohort) -> None:
        """Route to it no more."""
        del self._cohorts[cohort]
        for place in _places(cohort.key.filter):
            shelf = self._shelves[place]
            shelf.remove(cohort)
            if not len(shelf):
                del self._shelves[place]
                self._count(place, -1)

    def _count(self, place: _Place, change: int) -> None:
        kind, head = place
        if kind in self._lengths and head is not None:
            lengths = self._lengths[kind]
            lengths[len(head)] += change
            if not lengths[len(head)]:
                del lengths[len(head)]

    def to(self, tenant: str | None, channel: str, type_: str) -> list[Cohort]:
        """The cohorts whose filter accepts such an event, each once."""
        places = [_EVERY, ("channel", channel), ("type", type_), ("tenant", tenant)]
        for kind, text in (("channel*", channel), ("type*", type_)):
            places += [(kind, text[:length]) for length in self._lengths[kind]]
        found: list[Cohort] = []
        for place in places:
            shelf = self._shelves.get(place)
            if shelf is not None:
                more, asked = shelf.to(tenant, channel, type_)
                self.asked += asked
                # One with several globs may be on several shelves.
                found = list(dict.fromkeys(found + more)) if found and more else found or more
        return found
