"""Fairness of long work: how much of it may be done before the event loop gets a turn."""

from __future__ import annotations

import asyncio

_TURN = 400
"""Small writes to sockets, 5 us each: about 2 ms. All costs are told in them."""


class Breath:
    """What is left of a turn. Tell it what you have done, at least every 2 ms."""

    def __init__(self) -> None:
        self._left = float(_TURN)

    def room(self, cost: float) -> int:
        """How many pieces of work of this cost the turn has room for; one at least."""
        return max(1, int(self._left / cost))

    async def spend(self, cost: float) -> None:
        """That much was done: let the others have a turn, if ours is over."""
        self._left -= cost
        if self._left <= 0:
            self._left = float(_TURN)
            await asyncio.sleep(0)
