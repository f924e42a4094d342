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


What = str | Callable[[], str]
"""What is waited for, or a function that says how far it got."""


def _complaint(what: What, patience: float) -> AssertionError:
    said = what() if callable(what) else what
    return AssertionError(f"not true after {patience:g} s: {said or 'the condition'}")


async def wait_until(predicate: Callable[[], T | Awaitable[T]], what: What = "", patience: float = PATIENCE) -> T:
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


def wait_until_sync(predicate: Callable[[], T], what: What = "", patience: float = PATIENCE) -> T:
    """The same without an event loop."""
    until = time.monotonic() + patience
    while not (value := predicate()):
        if time.monotonic() >= until:
            raise _complaint(what, patience)
        time.sleep(_STEP)
    return value
