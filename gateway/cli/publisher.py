"""POST /api/events, again until it is answered; with an Idempotency-Key, so that nothing is stored twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import aiohttp

from gateway.cli.client import UNREACHABLE, Refused, reason, refused
from gateway.events.jsontext import loads

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 10.0


class Publisher:
    """`patience`: for how many seconds one request is tried while the gateway is away. `note` is told of waits."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        patience: float,
        note: Callable[[str], None],
        chance: random.Random | None = None,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = f"{url}/api/events"
        self._patience = patience
        self._note = note
        self._random = chance or random.Random()
        self._pause = pause

    async def publish(self, body: bytes, content_type: str, key: str) -> list[str]:
        """The ids of the events in `body`. Raises `Refused`, or one of `UNREACHABLE` when patience has run out."""
        until = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._post(body, content_type, key)
            except Refused as error:
                if error.is_final or time.monotonic() + pause > until:
                    raise
                why, wanted = str(error), error.retry_after or 0.0
            except UNREACHABLE as error:
                if time.monotonic() + pause > until:
                    raise
                why, wanted = reason(error), 0.0
            if pause == _FIRST_PAUSE:
                self._note(f"{why}; trying again for up to {self._patience:g} s")
            await self._pause(max(wanted, pause * self._random.uniform(0.7, 1.0)))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _post(self, body: bytes, content_type: str, key: str) -> list[str]:
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            if response.status != 201:
                raise await refused(response)
            answer = loads(await response.read())
            return [str(event_id) for event_id in answer["ids"]]
