"""What an attempt means for its delivery and its endpoint: the rules of CONTRACT section 5 in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.bridge.attempt import Attempt
from gateway.bridge.delivery import Delivery, Status
from gateway.bridge.dialects import Dialect
from gateway.bridge.schedule import MAX_RETRY_AFTER, Step, parse_retry_after, throttled, wait_before

_OUR_FAULT_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """`wait` is seconds until the next attempt, None when there is none. `charged`: it used up a step.

    `pause` is for how many seconds the receiver wants to hear nothing at all. `gone`: it wants nothing ever again.
    """

    status: Status
    charged: bool = True
    wait: float | None = None
    pause: float = 0.0
    gone: bool = False

    @property
    def blames_receiver(self) -> bool:
        """Whether it counts as a failure of the endpoint."""
        return self.charged and self.status != "delivered"


_DELIVERED: Final = Outcome("delivered")


def judge(
    delivery: Delivery,
    attempt: Attempt,
    dialect: Dialect,
    steps: Sequence[Step],
    now: float,
    luck: Callable[[], float],
    *,
    own_url: bool,
) -> Outcome:
    """The outcome of `attempt`, the one for step ``delivery.step``; `now` is Unix time in seconds.

    `own_url`: the URL is the endpoint's, not one that the event brought.
    """
    if attempt.status is not None and attempt.status in dialect.success:
        return _DELIVERED
    if attempt.error == "internal":
        return Outcome("retrying", charged=False, wait=_OUR_FAULT_WAIT)
    if attempt.error == "unrenderable":
        return Outcome("failed", charged=False)
    asked = None
    if attempt.status in (429, 503):
        asked = parse_retry_after(attempt.response_headers.get("retry-after"), now)
    if attempt.status == 429:
        wait = throttled(dialect.jitter, luck(), asked)
        return Outcome("retrying", charged=False, wait=wait, pause=wait)
    if attempt.status == 410:
        # The endpoint is disabled, and this delivery waits for it to be enabled again.
        return Outcome("retrying", charged=False, wait=0.0, gone=True) if own_url else Outcome("failed")
    following = delivery.step + 1
    if following >= len(steps):
        return Outcome("failed")
    wait = wait_before(steps[following], dialect.jitter, luck(), asked)
    return Outcome("retrying", wait=wait, pause=min(asked or 0.0, MAX_RETRY_AFTER))
