"""When the next attempt is made, and on which URL.

A plan is a list of steps, one a charged attempt.  Waits come out as documented or up to the dialect's jitter longer,
never shorter.  The receiver's ``Retry-After`` can only lengthen a wait; 429 asks for patience, so it costs no step.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from gateway.bridge.dialects import DIALECTS, Dialect

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds; what a receiver may ask for at most."""

THROTTLE: Final = 30.0
"""Seconds to wait after a 429 that does not say how long."""


class Step(NamedTuple):
    """One attempt: the wait before it in seconds, and whether it goes to the failover URL."""

    wait: float
    failover: bool


def plan(dialect: Dialect, retry: str | tuple[float, ...] | None, *, failover: bool) -> tuple[Step, ...]:
    """The steps of a delivery. `retry` is a dialect's name, a list of waits, or None for the dialect's own."""
    waits = dialect.schedule if retry is None else DIALECTS[retry].schedule if isinstance(retry, str) else retry
    steps = [Step(wait, False) for wait in waits]
    if failover:
        steps += [Step(wait, True) for wait in dialect.failover]
    return tuple(steps)


def wait_before(step: Step, jitter: float, luck: float, retry_after: float | None = None) -> float:
    """Seconds until the attempt of `step`. `luck` is random in [0, 1)."""
    return max(step.wait * (1.0 + jitter * luck), min(retry_after or 0.0, MAX_RETRY_AFTER))


def throttled(jitter: float, luck: float, retry_after: float | None = None) -> float:
    """Seconds until a delivery that got 429 may be tried again."""
    wait = THROTTLE if retry_after is None else min(max(retry_after, 1.0), MAX_RETRY_AFTER)
    return wait * (1.0 + jitter * luck)


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a ``Retry-After`` header: a number of seconds or an HTTP date (RFC 9110, 10.2.3), else None."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
