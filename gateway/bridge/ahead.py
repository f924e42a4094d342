"""What is settled beyond a position: a position alone would have all of it delivered again by the next owner."""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.events.position import ZERO, EventId, format_id, parse_id


class Ahead(NamedTuple):
    """Everything up to `until` is settled, but for `open`."""

    until: EventId
    open: frozenset[EventId]

    def settled(self, event_id: EventId) -> bool:
        """Whether an event beyond the position needs no delivery any more."""
        return event_id <= self.until and event_id not in self.open

    def dump(self) -> str:
        """As text; empty for nothing."""
        return f"{format_id(self.until)}:{','.join(map(format_id, sorted(self.open)))}" if self.until else ""

    @classmethod
    def load(cls, text: str) -> Ahead:
        """What `dump` made."""
        until, _, still_open = text.partition(":")
        return cls(parse_id(until), frozenset(map(parse_id, filter(None, still_open.split(","))))) if text else NOTHING


NOTHING: Final = Ahead(ZERO, frozenset())
