"""How much one caller may do at once, and how fast. Pure; per process: with n processes a caller gets n times as much.

A limit of 0 is no limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.principal import ANONYMOUS, Principal


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a process; each of the second group may be overridden by a key (`Principal.limits`)."""

    process_connections: int = 0
    """Open subscriptions of the whole process."""
    ip_connections: int = 0
    """Open subscriptions from one address; loopback and trusted proxies are not counted."""

    connections: int = 0
    """Open subscriptions of one principal."""
    filters: int = 0
    """Distinct filters among the open subscriptions of one principal."""
    replays: int = 0
    """Subscriptions and pages of one principal that read from Redis at the same time."""
    publish_events: float = 0
    """Events a second that one principal may publish; as many at once."""
    publish_bytes: float = 0
    """Bytes of body a second that one principal may publish; as many at once."""
    endpoints: int = 0
    """Webhook endpoints of one tenant."""

    def of(self, principal: Principal, name: str) -> float:
        """The limit `name` of `principal`. Everybody together is no principal that could be held to one."""
        if name in principal.limits:
            return principal.limits[name]
        return 0 if principal.id == ANONYMOUS.id else float(getattr(self, name))


class OverLimit(Exception):
    """`reason` is the limit's name, for metrics; `retry_after` is in whole seconds; `ours`: the process is full."""

    def __init__(self, reason: str, detail: str, *, retry_after: int = 5, ours: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.retry_after = retry_after
        self.ours = ours


class Bucket:
    """A token bucket that holds one second's worth. `clock` is monotonic seconds."""

    __slots__ = ("_clock", "_filled", "_level", "rate")

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._level = rate
        self._filled = clock()

    @property
    def full(self) -> bool:
        """Whether nothing was taken for long enough to be forgotten."""
        self._fill()
        return self._level >= self.rate

    def take(self, amount: float) -> float:
        """Take `amount`; 0, or the seconds until it may be asked for again, with nothing taken.

        More than the bucket holds may be taken when it is full: it then stays empty for as long as that is worth, so
        that a large batch is slow, not impossible.
        """
        self._fill()
        if self._level < min(amount, self.rate):
            return (min(amount, self.rate) - self._level) / self.rate
        self._level -= amount
        return 0.0

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self.rate, self._level + (now - self._filled) * self.rate)
        self._filled = now


class Rates:
    """A bucket for each caller and limit that was in use of late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, caller: str, name: str, rate: float, amount: float) -> None:
        """Count `amount` of `name` against `caller`. Raises `OverLimit`. A `rate` of 0 is no limit."""
        if rate <= 0:
            return
        bucket = self._buckets.get((caller, name))
        if bucket is None or bucket.rate != rate:
            if len(self._buckets) >= 10_000:
                self._buckets = {key: kept for key, kept in self._buckets.items() if not kept.full}
            bucket = self._buckets[caller, name] = Bucket(rate, self._clock)
        wait = bucket.take(amount)
        if wait > 0:
            raise OverLimit(name, f"the limit of {rate:g} a second is reached", retry_after=max(1, math.ceil(wait)))
