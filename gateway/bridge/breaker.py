"""The circuit breaker of one endpoint: when to stop trying, when to try once, how fast to come back.

After `THRESHOLD` failures in a row nothing goes out but one probe, at growing intervals; the backlog stays in the
Redis stream.  After a probe that succeeds the limit doubles with each success, so that a receiver that has just come
back is not knocked over again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

THRESHOLD: Final = 10
FIRST_PAUSE: Final = 5.0
LAST_PAUSE: Final = 300.0
DISABLE_AFTER: Final = 5 * 86400.0


class Breaker:
    """`luck` is random in [0, 1). Times are Unix seconds. `failing_since` survives a restart of the bridge."""

    def __init__(self, max_in_flight: int, failing_since: float | None, luck: Callable[[], float]) -> None:
        self.max_in_flight = max_in_flight
        self.failing_since = failing_since
        self.open = False
        self.probe_at = 0.0
        self._luck = luck
        self._failures = 0
        self._pause = FIRST_PAUSE
        # Whoever was failing when the last bridge ended gets one attempt first.
        self._ramp = max_in_flight if failing_since is None else 1

    @property
    def limit(self) -> int:
        """How many attempts may be in flight."""
        return 1 if self.open else min(self._ramp, self.max_in_flight)

    def permits(self, now: float) -> bool:
        """Whether an attempt may start, as far as time is concerned."""
        return not self.open or now >= self.probe_at

    def succeeded(self) -> bool:
        """Note a success; True when the endpoint has recovered by it."""
        recovered = self.open
        self.open = False
        self.failing_since = None
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._ramp = 1 if recovered else min(self._ramp * 2, self.max_in_flight)
        return recovered

    def troubled(self, now: float) -> None:
        """It did not take a delivery, though it may be well: too many requests."""
        if self.failing_since is None:
            self.failing_since = now

    def failed(self, now: float) -> bool:
        """Note a failure; True when the breaker opened by it."""
        self.troubled(now)
        if self.open and now < self.probe_at:
            return False  # it was under way when the breaker opened, and says nothing new
        self._failures += 1
        if not self.open and self._failures < THRESHOLD:
            return False
        opened = not self.open
        self.open = True
        self.probe_at = now + self._pause * (1.0 + 0.1 * self._luck())
        self._pause = min(self._pause * 2, LAST_PAUSE)
        return opened

    def hopeless(self, now: float) -> bool:
        """Whether it has failed for so long that it is to be disabled."""
        return self.failing_since is not None and now - self.failing_since >= DISABLE_AFTER
