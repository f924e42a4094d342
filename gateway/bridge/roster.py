"""Which endpoints there are, as one process sees them: loaded at the start, then kept up with what changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.lease import shard_of
from gateway.bridge.parts import Parts

log = logging.getLogger("gateway.bridge")

_RELOAD: Final = 30.0
_BLOCK_MS: Final = 1000


class Roster:
    """`changed` is told the ids of endpoints that came, went or are not what they were; `touched` of one that somebody
    did something to; both after `endpoints` is up to date. `called`: another process has joined, left or let go."""

    def __init__(
        self,
        parts: Parts,
        *,
        changed: Callable[[list[str]], Awaitable[None]],
        touched: Callable[[str], Awaitable[None]],
        called: Callable[[], None],
    ) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self._log = parts.log
        self._registry = parts.registry
        self._waiting = parts.waiting
        self._own_urls = parts.own_urls
        self._narrow = parts.narrow
        self._now = parts.clock.now
        self._changed = changed
        self._touched = touched
        self._called = called
        self._stale = False

    def __len__(self) -> int:
        return len(self.endpoints)

    def on_stream(self, stream: str) -> Iterable[Endpoint]:
        """Those of one stream."""
        return (it for it in self.endpoints.values() if it.config.stream == stream)

    def in_shard(self, shard: int) -> list[Endpoint]:
        """Those of one shard."""
        return [it for it in self.endpoints.values() if shard_of(it.id) == shard]

    def rights_changed(self) -> None:
        """Look at all endpoints again, soon: what their makers may see is another."""
        self._stale = True

    async def follow(self) -> None:
        """Load all, then follow what changes. All are loaded again now and then, and after Redis was away."""
        position = None
        while True:
            try:
                # Once: what is announced while all are loaded again must be heard of too, as a resend would wait.
                position = position or await self._waiting.changes_position()
                self._stale = False
                await self._load_all()
                until = self._now() + _RELOAD
                while self._now() < until and not self._stale:
                    position, ids = await self._waiting.changes(position, _BLOCK_MS)
                    for endpoint_id in dict.fromkeys(ids):
                        if endpoint_id:
                            await self._load(endpoint_id)
                        else:
                            self._called()
            except UNAVAILABLE as error:
                log.debug("bridge.waits error=%r", error)
                await asyncio.sleep(0.5)
            except Exception:
                log.exception("bridge.changes_failed")
                await asyncio.sleep(1.0)

    async def _load_all(self) -> None:
        stored = await self._registry.all()
        streams = {it.config.stream for it in stored.values() if not it.system} | set(self._log.fixed_streams)
        served = {it.config.stream for it in stored.values() if it.system}
        for made in await self._own_urls.open(
            stream for stream in sorted(streams - served) if stream in self._log.served
        ):
            stored[made.id] = made
        found = {it.id: it for it in map(self._view, stored.values()) if it is not None}
        gone = self.endpoints.keys() - found.keys()
        different = [it.id for it in found.values() if self.endpoints.get(it.id) != it]
        self.endpoints = found
        await self._changed([*gone, *different])

    async def _load(self, endpoint_id: str) -> None:
        stored = await self._registry.get(endpoint_id)
        endpoint = None if stored is None else self._view(stored)
        if endpoint is None:
            self.endpoints.pop(endpoint_id, None)
        else:
            self.endpoints[endpoint_id] = endpoint
        await self._changed([endpoint_id])
        await self._touched(endpoint_id)

    def _view(self, stored: Endpoint) -> Endpoint | None:
        """As it is driven: with the rights of its maker, and the secret in force."""
        return self._narrow(self._own_urls.signing(stored))
