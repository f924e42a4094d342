"""How many entries to ask Redis for at once.

COUNT is in entries, memory and time are in bytes: 1,000 entries are 250 KiB of small events, or 1 GiB of large ones.
So the count follows the mean size seen so far.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.events.event import Entry, Event

_MOST = 1000  # about 5 ms of decoding: longer would hold up the event loop
_FIRST = 200
_TARGET_BYTES = 1 << 20


def payload_bytes(entries: Sequence[Entry]) -> int:
    """Bytes of payload in `entries`; 64 for one that broke a rule."""
    return sum([len(entry[6]) if type(entry) is Event else 64 for entry in entries])


class Pace:
    """`count` for the next read. Tell it what came with `saw`."""

    def __init__(self) -> None:
        self.count = _FIRST
        self.bytes_seen = 0
        self._mean = 0.0

    def saw(self, entries: int, size: int) -> None:
        """Learn from a page of so many entries with so many bytes of payload."""
        if not entries:
            return
        self.bytes_seen += size
        mean = size / entries + 64
        self._mean = max(mean, 0.7 * self._mean + 0.3 * mean)
        self.count = max(1, min(_MOST, int(_TARGET_BYTES / self._mean)))
