"""Writes what pumps have settled, many at a time: the first at once, what comes meanwhile 20 ms later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.ledger import Commit, Ledger
from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.pump import Pump
from gateway.events.position import parse_id

log = logging.getLogger("gateway.bridge")

_GATHER: Final = 0.02
_BATCH: Final = 500
"""Endpoints in one round trip."""


class Committer:
    """One task. `fenced` is called for a pump whose endpoint has a later owner; `failpoint` is for tests."""

    def __init__(
        self, ledger: Ledger, metrics: BridgeMetrics, fenced: Callable[[Pump], None], failpoint: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._fenced = fenced
        self._failpoint = failpoint
        self._dirty: dict[Pump, None] = {}
        self._wake = asyncio.Event()
        self._writing: set[Pump] = set()
        self._task = asyncio.create_task(self._run(), name="committer")

    def mark(self, pump: Pump) -> None:
        """The pump has something to write."""
        self._dirty[pump] = None
        self._wake.set()

    async def written(self, pump: Pump, timeout: float) -> bool:
        """Wait until all that `pump` has marked is written, at most `timeout` seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while pump in self._dirty or pump in self._writing:
            if loop.time() >= until:
                return False
            await asyncio.sleep(_GATHER / 4)
        return True

    async def stop(self) -> None:
        """End the task."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            pumps = list(self._dirty)[:_BATCH]
            for pump in pumps:
                del self._dirty[pump]
            taken = [(pump, pump.take_commit()) for pump in pumps]
            self._writing = set(pumps)
            self._metrics.flush()
            await self._write([(pump, commit) for pump, commit in taken if commit])
            self._writing.clear()
            if self._dirty:
                self._wake.set()
            await asyncio.sleep(_GATHER)

    async def _write(self, taken: list[tuple[Pump, Commit]]) -> None:
        """Until it is written: the results are known here only, and giving up would deliver them all again."""
        failures = 0
        while taken:
            try:
                answers = await self._ledger.commit([commit for _, commit in taken])
            except UNAVAILABLE as error:
                failures += 1
                self._metrics.commits.labels("unavailable").inc()
                log.log(logging.WARNING if failures == 1 else logging.DEBUG, "ledger.away error=%r", error)
                await asyncio.sleep(min(1.0, 0.05 * 2 ** min(failures, 10)))
                continue
            self._failpoint("committed")
            for (pump, commit), accepted in zip(taken, answers, strict=True):
                self._metrics.commits.labels("written" if accepted else "fenced").inc()
                if accepted:
                    position = commit.state.get("position")
                    pump.committed(commit, None if position is None else parse_id(position))
                else:
                    self._fenced(pump)
            return
