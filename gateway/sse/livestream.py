"""One stream as the live lane sees it: how far it has read, and who wants what."""

from __future__ import annotations

from gateway.sse.routing import Routes
from gateway.stream.cursor import Cursor
from gateway.stream.window import Item

_SLICE = 128
"""Items encoded before the loop gets a turn; with 150-byte events the kernel's buffer of a reader has room for them."""
_SLICE_BYTES = 131_072


class LiveStream:
    """The lane's place in one stream, and who wants what of it."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.routes = Routes()
        self.seen = 0
        """Items read since the lane began; only differences mean anything."""

    @property
    def name(self) -> str:
        """The stream's key."""
        return self.cursor.stream

    async def take(self) -> list[Item]:
        """The next slice, bounded in items and bytes; empty at the tail."""
        items = await self.cursor.read(_SLICE, size=_SLICE_BYTES)
        self.seen += len(items)
        return items
