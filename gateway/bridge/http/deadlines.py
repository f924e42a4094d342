"""Ends what takes too long, with one timer for all: a timer for each request would cost more than its head."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.bridge.http.exchange import Exchange

_STEP: Final = 0.05
"""Seconds by which a deadline may be late; never early."""


class Deadlines:
    """Exchanges by the time at which they expire. Use inside the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots: dict[int, set[Exchange]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0
        """The slot for which the timer is set."""

    def add(self, exchange: Exchange, at: float) -> set[Exchange]:
        """`exchange` expires at `at` (monotonic seconds), unless it is taken out of the set before."""
        number = int(at / _STEP) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = set()
            heapq.heappush(self._order, number)
            if self._timer is None or number < self._rings:
                self._arm()
        slot.add(exchange)
        return slot

    def all(self) -> list[Exchange]:
        """What is under way."""
        return [exchange for slot in self._slots.values() for exchange in slot]

    def close(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._order[0]
        self._timer = self._loop.call_later(max(0.0, self._rings * _STEP - time.monotonic()), self._ring)

    def _ring(self) -> None:
        self._timer = None
        # A loop's clock may be coarser than ours: what is due within a moment is due.
        due = time.monotonic() + 0.002
        while self._order and self._order[0] * _STEP <= due:
            for exchange in list(self._slots.pop(heapq.heappop(self._order))):
                exchange.expire()
        if self._order:
            self._arm()
