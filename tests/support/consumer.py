"""A consumer that comes back after every cut with the last id it knows, as a browser does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.oracle import Expected
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until


class Consumer:
    """Keeps what it got over all its connections. `query` says what it wants, not where it starts."""

    def __init__(self, url: str, query: Mapping[str, str], *, since: str = "") -> None:
        self.url = url
        self.got: list[Expected] = []
        self.gaps: list[dict[str, Any]] = []
        self.position = ""
        self.connections = 0
        self.replayed: list[int] = []
        """What each ``gateway.caught-up`` said."""
        self._query = dict(query)
        self._since = since

    async def connect(self, cut_after: int | None = None) -> EventStream:
        """The next connection, from where the last one got to."""
        query = self._query if self.position or not self._since else {**self._query, "since": self._since}
        stream = await subscribe(self.url, query, last_event_id=self.position, cut_after=cut_after)
        assert stream.status == 200, bytes(stream.body)
        self.connections += 1
        return stream

    def take(self, stream: EventStream) -> None:
        """Keep what a connection brought, once it is over or will not be used again."""
        assert stream.parser.empty_blocks == 0
        for message in stream.messages:
            data = json.loads(message.data)
            if message.type == "gateway.gap":
                self.gaps.append(data)
            elif message.type == "gateway.caught-up":
                self.replayed.append(data["replayed"])
            elif not message.type.startswith("gateway."):
                self.got.append(Expected(data["stream"], data["id"], message.data))
        self.position = stream.position

    async def read_until_cut(self, cut_after: int, enough: asyncio.Future[None] | None = None) -> None:
        """One connection that is reset after so many bytes, wherever that falls.

        It is left before that when `enough` is done; without one, when it is caught up.
        """
        async with await self.connect(cut_after) as stream:
            closed = asyncio.ensure_future(stream.until_closed())
            told = asyncio.ensure_future(stream.told("caught-up"))
            await asyncio.wait({closed, enough or told}, return_when=asyncio.FIRST_COMPLETED)
            for waiting in (closed, told):
                waiting.cancel()
            await asyncio.gather(closed, told, return_exceptions=True)
            self.take(stream)

    async def read_to(self, ends: Mapping[str, str]) -> None:
        """Connections up to the ``caught-up`` that stands at `ends` (stream to id), or past it."""

        async def reached() -> bool:
            async with await self.connect() as stream:
                told = await stream.told("caught-up")
                self.take(stream)
            at = positions(told["position"], list(ends))
            return all(as_pair(at[name]) >= as_pair(end) for name, end in ends.items())

        await wait_until(reached, f"caught up at {dict(ends)}")


def positions(text: str, streams: Iterable[str]) -> dict[str, str]:
    """A position as stream to id."""
    if "@" not in text:
        (only,) = streams
        return {only: text}
    return dict(part.split("@") for part in text.split(","))


def as_pair(event_id: str) -> tuple[int, int]:
    """An id as two integers."""
    ms, seq = event_id.split("-")
    return int(ms), int(seq)


def by_stream(events: Iterable[Expected]) -> dict[str, list[Expected]]:
    """Each stream's events, in the order given."""
    found: dict[str, list[Expected]] = {}
    for event in events:
        found.setdefault(event.stream, []).append(event)
    return found
