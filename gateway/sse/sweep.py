"""The same bytes for many members of a cohort: to each socket with one system call.

Most members take at once what they are sent.  They are kept by the file descriptor of their socket and written to
past their transports: a walk over 1,000 of them touches no object of theirs, and those, cold after 20 ms of other
work, cost as much as all that is not the kernel's (loadtest fanout).  A descriptor is in `Cohort.by_descriptor` from
when its member joins until its transport buffers something or tells that the connection is lost; only after that is
the socket closed, so a number is never that of somebody else's connection.
"""

from __future__ import annotations

from collections.abc import Callable
from os import write
from typing import Final

from gateway.sse.breath import Breath
from gateway.sse.cohort import Audience, Places
from gateway.sse.subscriber import Subscriber

_BYTES: Final = 16_384
"""As many take as long as a write does by itself."""
_DROP: Final = 16
"""A drop makes a task, which reads and writes: in writes."""
_DROPS: Final = 16
"""As many end a turn."""

Drop = Callable[[Subscriber, Places], None]
"""Takes a member out of the lane, left at these places."""


class Sweeper:
    """Writes to audiences."""

    def __init__(self, breath: Breath, drop: Drop) -> None:
        self._breath = breath
        self._drop = drop

    async def sweep(self, audience: Audience, data: bytes) -> int:
        """Write to each member, dropping those that are not ready for it; how many got it."""
        written = await self._to_sockets(audience, data)
        return written + await self._to_transports(audience, data) if audience.by_transport else written

    async def _to_sockets(self, audience: Audience, data: bytes) -> int:
        todo, cost, written = list(audience.by_descriptor), 1 + len(data) / _BYTES, 0
        while todo:
            room = self._breath.room(cost)
            turn, todo = todo[:room], todo[room:]
            if audience.departures != audience.cohort.departures:  # some have gone while others had their turn
                turn = self._still_there(audience, turn)
            done, dropped, sent = self._write(audience, turn, data)
            written += sent
            todo[:0] = turn[done:]
            await self._breath.spend(done * cost + dropped * _DROP)
        return written

    def _still_there(self, audience: Audience, descriptors: list[int]) -> list[int]:
        """Those of `descriptors` that may be written to; a member that has a backlog meanwhile is dropped."""
        cohort, found = audience.cohort, []
        for descriptor in descriptors:
            member = audience.by_descriptor[descriptor]
            if cohort.by_descriptor.get(descriptor) is member:
                found.append(descriptor)
            elif member.cohort is cohort:
                self._drop(member, audience.before)
        return found

    def _write(self, audience: Audience, descriptors: list[int], data: bytes) -> tuple[int, int, int]:
        """How many of `descriptors` were tried, how many of these were dropped, how many got it."""
        size, members, dropped, failed = len(data), audience.by_descriptor, 0, 0
        for descriptor in descriptors:
            try:
                sent = write(descriptor, data)
            except BlockingIOError:
                self._drop(members[descriptor], audience.before)
                dropped += 1
                if dropped == _DROPS:
                    tried = descriptors.index(descriptor) + 1
                    return tried, dropped, tried - dropped - failed
            except OSError:
                # A transport that is not reading (a request was pipelined) learns of it by writing alone.
                _hand_over(members[descriptor], data)
                failed += 1
            else:
                if sent < size:
                    # The transport buffers the rest, without a copy, and the member is no longer ready.
                    _hand_over(members[descriptor], memoryview(data)[sent:])
        return len(descriptors), dropped, len(descriptors) - dropped - failed

    async def _to_transports(self, audience: Audience, data: bytes) -> int:
        """The same for those without a socket that may be written to (TLS), and those with a backlog."""
        written = 0
        for member in audience.by_transport:
            if member.cohort is not audience.cohort:
                continue
            if member.paused:
                self._drop(member, audience.before)
                await self._breath.spend(_DROP)
                continue
            written += _hand_over(member, data)
            await self._breath.spend(1 + len(data) / _BYTES)
        return written


def _hand_over(member: Subscriber, data: bytes | memoryview) -> bool:
    """Write through the transport; False when that is closed already, and word of it is on its way."""
    try:
        member.write(data)  # type: ignore[misc]
    except RuntimeError:
        return False
    return True
