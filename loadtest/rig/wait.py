"""Waiting for a fact, for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(fact: Callable[[], bool], seconds: float, *, every: float = 0.01) -> bool:
    """Poll `fact`; True as soon as it holds, False after `seconds`. With less than 1 ms between, uvloop never rests."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
    return True
