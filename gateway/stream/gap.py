"""When a position cannot be resumed without loss: the verdict, from what Redis says of the stream.

Redis gives no error for a position whose entries were trimmed: XRANGE and XREAD go on after the hole, in silence, and
an id ahead of a recreated stream waits for ever.  ``max-deleted-entry-id`` does not move on XTRIM, so the verdict
rests on the first entry, the last generated id, the length and the count of entries ever added (XINFO STREAM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.events.position import ZERO, EventId, before

GapReason = Literal["trimmed", "recreated"]


class Gap(NamedTuple):
    """A hole in the log. It stands between entries, as an entry of its own."""

    id: EventId
    """The position at which reading goes on: nothing before or at it is left, all after it is there."""
    stream: str
    requested: EventId
    reason: GapReason
    shortened: bool = False
    """The stream is the same, but for entries after `id`, which were lost (a replica without them took over)."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What XINFO STREAM says. A key that does not exist has `length` 0 and both ids zero."""

    length: int
    last_id: EventId
    first_id: EventId | None
    entries_added: int | None
    """Entries ever added, or None on Redis before 7.0, which does not count them."""

    @property
    def lossless(self) -> bool:
        """Whether every entry ever added is still there. False on Redis before 7.0, where nobody knows."""
        return self.entries_added == self.length

    @property
    def start(self) -> EventId:
        """The position from which a reader sees all that the stream still holds."""
        if self.first_id is not None:
            return ZERO if self.lossless else before(self.first_id)
        return ZERO if self.lossless else self.last_id


MISSING = StreamInfo(length=0, last_id=ZERO, first_id=None, entries_added=0)


def verdict(stream: str, position: EventId, info: StreamInfo) -> Gap | None:
    """The gap that a reader at `position` falls into, or None when all events after it are still there."""
    if position == ZERO:
        trimmed = info.entries_added is not None and not info.lossless
        return Gap(info.start, stream, position, "trimmed") if trimmed else None
    if position > info.last_id:
        return Gap(info.start, stream, position, "recreated")
    if position == info.last_id or (info.first_id is not None and position + 1 >= info.first_id):
        return None
    return Gap(info.start, stream, position, "recreated" if info.lossless else "trimmed")
