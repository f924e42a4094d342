"""The same bytes for many members of a cohort: to each socket with one system call.

Most members take at once what they are sent.  They are kept by the file descriptor of their socket and written to
past their transports: a walk over 1,000 of them touches no object of theirs, and those, cold after 20 ms of other
work, cost as much as all that is not the kernel's (loadtest fanout).  A descriptor is in `Cohort.ready` from when its
member joins until its transport buffers something or tells that the connection is lost; only after that is the
socket closed, so a number is never that of somebody else's connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from os import write
from typing import TYPE_CHECKING, NamedTuple

from gateway.stream.cursor import Place

if TYPE_CHECKING:
    from gateway.sse.cohort import Cohort
    from gateway.sse.subscriber import Subscriber

_TURN = 400
"""Writes before the loop gets a turn: about 2 ms."""

Places = dict[str, Place]


class Audience(NamedTuple):
    """Who was a member of a cohort at one instant."""

    cohort: Cohort
    ready: dict[int, Subscriber]
    others: tuple[Subscriber, ...]
    before: Places
    """Where a member is left that cannot be written to."""

    def split(self, since: int) -> tuple[Audience, Audience]:
        """The members that joined when the lane had seen up to `since` items, and those that came later."""
        return self._only(lambda member: member.joined_at <= since), self._only(lambda member: member.joined_at > since)

    def _only(self, wanted: Callable[[Subscriber], bool]) -> Audience:
        ready = {descriptor: member for descriptor, member in self.ready.items() if wanted(member)}
        return self._replace(ready=ready, others=tuple(filter(wanted, self.others)))


Drop = Callable[["Subscriber", Places], None]
"""Takes a member out of the lane, left at these places."""


class Sweeper:
    """Writes to audiences. The loop gets a turn after so many writes, to however many audiences they are."""

    def __init__(self, drop: Drop) -> None:
        self._drop = drop
        self._left = _TURN

    async def sweep(self, audience: Audience, data: bytes) -> int:
        """Write to each member, dropping those that are not ready for it; how many got it."""
        written = await self._to_sockets(audience, data)
        return written + await self._to_transports(audience, data) if audience.others else written

    async def _to_sockets(self, audience: Audience, data: bytes) -> int:
        cohort, ready = audience.cohort, audience.ready
        todo, size, written, departures = list(ready), len(data), 0, cohort.departures
        start = 0
        while start < len(todo):
            await self._breathe()
            turn = todo[start : start + self._left]
            start += len(turn)
            self._left -= len(turn)
            if departures != cohort.departures:  # some have gone while others had their turn
                turn = [descriptor for descriptor in turn if self._is_ready(audience, descriptor)]
            for descriptor in turn:
                try:
                    sent = write(descriptor, data)
                except BlockingIOError:
                    self._drop(ready[descriptor], audience.before)
                    continue
                except OSError:
                    # A transport that is not reading (a request was pipelined) learns of it by writing alone.
                    _hand_over(ready[descriptor], data)
                    continue
                written += 1
                if sent < size:
                    # The transport buffers the rest, and the member is no longer ready.
                    _hand_over(ready[descriptor], data[sent:])
        return written

    def _is_ready(self, audience: Audience, descriptor: int) -> bool:
        member = audience.ready[descriptor]
        if audience.cohort.ready.get(descriptor) is member:
            return True
        if member.cohort is audience.cohort:  # its transport has a backlog meanwhile
            self._drop(member, audience.before)
        return False

    async def _to_transports(self, audience: Audience, data: bytes) -> int:
        """The same for those without a socket that may be written to (TLS), and those with a backlog."""
        written = 0
        for member in audience.others:
            await self._breathe()
            if member.cohort is not audience.cohort:
                continue
            if member.paused:
                self._drop(member, audience.before)
                continue
            self._left -= 1
            written += _hand_over(member, data)
        return written

    async def _breathe(self) -> None:
        if not self._left:
            self._left = _TURN
            await asyncio.sleep(0)


def _hand_over(member: Subscriber, data: bytes) -> bool:
    """Write through the transport; False when that is closed already, and word of it is on its way."""
    try:
        member.write(data)  # type: ignore[misc]
    except RuntimeError:
        return False
    return True
