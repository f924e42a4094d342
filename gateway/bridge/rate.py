"""A limit of attempts a second, evenly spread."""

from __future__ import annotations

from typing import Final

_SLACK: Final = 0.02
"""Seconds of attempts that may come at once: timers are no finer than this."""


class Rate:
    """`limit` is attempts a second, None for no limit. Times are Unix seconds."""

    def __init__(self, limit: float | None) -> None:
        self._interval = 0.0 if limit is None else 1.0 / limit
        self.next_at = 0.0
        """When the next attempt may start."""

    def permits(self, now: float) -> bool:
        """Whether an attempt may start."""
        return now >= self.next_at

    def spend(self, now: float) -> None:
        """An attempt starts."""
        if self._interval:
            self.next_at = max(self.next_at, now - min(_SLACK, self._interval)) + self._interval
