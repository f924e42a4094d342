"""One timer that is set again and again, and moved only when it has to be."""

from __future__ import annotations

from collections.abc import Callable

from gateway.bridge.clock import Clock, Timer


class Alarm:
    """Calls `ring` at the earliest time asked for. Times are Unix seconds."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._at = 0.0

    def set(self, at: float, now: float) -> None:
        """Ring at `at`, unless it will ring before that anyway."""
        if self._timer is None or at < self._at or self._at <= now:
            self.cancel()
            self._at = at
            self._timer = self._clock.call_later(at - now, self._over)

    def cancel(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._timer = None
        self._ring()
