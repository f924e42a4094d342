"""Connections that lie idle, for whoever needs one to the same place."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from gateway.bridge.http.connection import Connection
from gateway.bridge.http.target import Origin

_KEPT: Final = 4.5
"""Seconds; below the 5 s after which Node closes an idle connection, and a POST on it may be lost."""


class Pool:
    """Use inside the running loop. The latest is taken first, so that what is too many grows old."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._loop = asyncio.get_running_loop()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, origin: Origin) -> Connection | None:
        """A connection to use."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.open and time.monotonic() - connection.idle_since < _KEPT:
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> bool:
        """Keep it, unless all is over."""
        if self._closed:
            return False
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_KEPT / 2, self._sweep)
        return True

    def _sweep(self) -> None:
        oldest = time.monotonic() - _KEPT
        for origin, idle in list(self._idle.items()):
            kept = [it for it in idle if it.open and it.idle_since > oldest]
            for connection in idle:
                if connection.idle_since <= oldest:
                    connection.close()
            if kept:
                self._idle[origin] = kept
            else:
                del self._idle[origin]
        self._sweeping = self._loop.call_later(_KEPT / 2, self._sweep) if self._idle else None

    def close(self) -> None:
        """Close them all, and keep none from now on."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.close()
        self._idle.clear()
