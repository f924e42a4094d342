"""Time as the bridge sees it, so that a test can hold schedules of hours in its hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call in the future."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """`now` is Unix time in seconds."""

    def now(self) -> float: ...
    def call_later(self, delay: float, call: Callable[[], None]) -> Timer: ...


class RealClock:
    """The clock of the machine and the timers of the running loop."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        """Call once after `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, call)
