"""Waiting for a fact, never for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds until a fact that does not come true is a failure. No test measures this."""
_STEP = 0.005


def _complaint(what: str, patience: float) -> AssertionError:
    return AssertionError(f"not true after {patience:g} s: {what or 'the condition'}")


async def wait_until(predicate: Callable[[], T | Awaitable[T]], what: str = "", patience: float = PATIENCE) -> T:
    """Wait until `predicate` (plain or async) answers something true; answer that. Raises `AssertionError`."""
    until = time.monotonic() + patience
    while True:
        value = predicate()
        found = await value if isinstance(value, Awaitable) else value
        if found:
            return found
        if time.monotonic() >= until:
            raise _complaint(what, patience)
        await asyncio.sleep(_STEP)


def wait_until_sync(predicate: Callable[[], T], what: str = "", patience: float = PATIENCE) -> T:
    """The same without an event loop."""
    until = time.monotonic() + patience
    while not (value := predicate()):
        if time.monotonic() >= until:
            raise _complaint(what, patience)
        time.sleep(_STEP)
    return value
