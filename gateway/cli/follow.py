"""Following a stream across cuts: what WHATWG HTML section 9.2 leaves to the user agent, done for programs.

Unlike a browser's EventSource it does not give up on a proxy's 502, and it resumes from ``Gateway-Position`` when the
first connection broke before its first event.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing

import aiohttp

from gateway.cli.client import UNREACHABLE, Refused, reason, refused
from gateway.cli.eventstream import EventStream, ServerEvent
from gateway.events.jsontext import NotJSON, loads

_DEFAULT_RETRY = 3.0
_LONGEST_RETRY = 30.0
# Heartbeats come every 15 s: a connection that is silent for this long is dead, whatever TCP says.
_SILENCE = 60.0

TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_SILENCE)
"""For the session of a follower."""


class Ended(Exception):
    """The gateway ended the stream for good; the message is its reason."""


class Follower:
    """One subscription. `query` holds its filters and where to start; `note` is told of cuts and returns.

    `patience`: for how many seconds the very first connection may fail before that is an error.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        query: Mapping[str, str],
        *,
        note: Callable[[str], None],
        patience: float = 5.0,
        chance: random.Random | None = None,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = url
        self._query = dict(query)
        self._note = note
        self._patience = patience
        self._random = chance or random.Random()
        self._pause = pause
        self._retry = _DEFAULT_RETRY
        self._failures = 0
        self._position = ""
        self._was_open = False
        self._lost: str | None = None

    def __repr__(self) -> str:
        return f"<Follower {self._url} position={self._position!r} failures={self._failures}>"

    async def batches(self) -> AsyncGenerator[list[ServerEvent]]:
        """Events, as many at a time as arrived together, for ever.

        Raises `Refused` for an answer that will not change, `Ended`, and one of `UNREACHABLE` when the gateway was
        never reached.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                async with aclosing(self._connection()) as connection:
                    async for events in connection:
                        yield events
                self._cut("the connection ended")
            except UNREACHABLE as error:
                if not self._was_open and time.monotonic() >= until:
                    raise
                self._cut(reason(error))
            except Refused as error:
                if error.is_final or (not self._was_open and time.monotonic() >= until):
                    raise
                self._cut(str(error))
                self._retry = max(self._retry, error.retry_after or 0)
            await self._pause(self._delay())

    def _cut(self, why: str) -> None:
        self._failures += 1
        if self._lost is None:
            self._lost = why
            where = f"; will resume after {self._position}" if self._position else ""
            self._note(f"{'lost' if self._was_open else 'cannot reach'} {self._url}: {why}{where}")

    def _delay(self) -> float:
        """The server's own time at first, then twice as long each time, spread so that crowds do not return as one."""
        if not self._was_open:
            return 0.2
        longest = max(_LONGEST_RETRY, self._retry)
        delay = min(self._retry * 2.0 ** (self._failures - 1), longest)
        return delay if self._failures == 1 else delay * self._random.uniform(0.5, 1.0)

    async def _connection(self) -> AsyncGenerator[list[ServerEvent]]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._position:
            headers["Last-Event-ID"] = self._position
        async with self._session.get(f"{self._url}/api/events", params=self._query, headers=headers) as response:
            self._check(response.status, response.content_type)
            if response.status != 200:
                raise await refused(response)
            self._opened(response.headers.get("Gateway-Position", ""))
            stream = EventStream(self._position)
            async for chunk in response.content.iter_any():
                events = stream.feed(chunk)
                if stream.retry_ms is not None:
                    self._retry = stream.retry_ms / 1000
                if events:
                    yield events
                    # Only now: what was handed over is done with, what was not is asked for again.
                    self._position = stream.last_event_id
                    self._failures = 0
                    _check_closing(events[-1])

    def _check(self, status: int, content_type: str) -> None:
        if status == 204:
            raise Ended("the gateway answered 204: there is nothing to follow")
        if status == 200 and content_type != "text/event-stream":
            raise Ended(f"{self._url} answered with {content_type}, not with an event stream")

    def _opened(self, position: str) -> None:
        self._position = self._position or position
        if self._lost is not None:
            self._note(f"connected to {self._url}" + (f" again, from {self._position}" if self._was_open else ""))
        self._was_open, self._lost = True, None
        # A position is stronger than these, and a gateway that were to lose it must not start over.
        for name in ("since", "last"):
            self._query.pop(name, None)


def _check_closing(event: ServerEvent) -> None:
    if event.type == "gateway.closing":
        try:
            closing = loads(event.data)
        except NotJSON:
            return
        if isinstance(closing, dict) and closing.get("reconnect") is False:
            raise Ended(f"the gateway closed the stream: {closing.get('reason', 'no reason given')}")
