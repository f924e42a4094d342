"""A delivery while an attempt at it is under way."""

from __future__ import annotations

from collections.abc import Callable

from gateway.bridge.courier import Result
from gateway.bridge.delivery import Delivery
from gateway.bridge.lane import Lane
from gateway.bridge.tools import Sending


class Flight:
    """`lane` is where the event was taken from, None for a retry. `land` is told of the result."""

    __slots__ = ("_land", "delivery", "lane", "life", "sending")

    def __init__(self, delivery: Delivery, lane: Lane | None, land: Callable[[Flight, Result], None]) -> None:
        self.delivery = delivery
        self.lane = lane
        self.life = 0 if lane is None else lane.life
        """Of the lane when this was taken."""
        self.sending: Sending | None = None
        self._land = land

    def landed(self, result: Result) -> None:
        """The attempt is over."""
        self._land(self, result)

    def cancel(self) -> None:
        """End the attempt; nobody is told."""
        if self.sending is not None:
            self.sending.cancel()
