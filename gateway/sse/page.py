"""One page of history as JSON: ``{"events":[...],"next":"<position>","gap":null|{...}}``."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

import orjson

from gateway.events.envelope import ENCODERS
from gateway.events.event import Event
from gateway.events.filter import predicate
from gateway.events.position import format_position
from gateway.sse.frame import describe_gap
from gateway.sse.request import EventsRequest
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.window import Item

_MOST_LOOKED_AT = 20_000
"""Items looked at for one page. A rare filter gets a short page whose ``next`` goes on, not a request without end."""
_BATCH = 500


async def read_page(request: EventsRequest, cursors: Sequence[Cursor], gaps: Sequence[Gap]) -> bytes:
    """Up to `request.limit` matching events in order of id; ``next`` is the ``since`` of the page that follows.

    With several streams ``gap`` is the first one. Raises what the store raises when Redis is away.
    """
    accepts, encode = predicate(request.filter), ENCODERS[request.format]
    found: list[bytes] = []
    holes = list(gaps)
    position = {cursor.stream: cursor.position for cursor in cursors}
    looked_at = 0
    async for stream, item in _merged(cursors):
        looked_at += 1
        position[stream] = item.id
        if isinstance(item, Gap):
            holes.append(item)
        elif isinstance(item, Event) and (accepts is None or accepts(item)):
            found.append(encode(item))
        if len(found) == request.limit or looked_at == _MOST_LOOKED_AT:
            break
    else:
        position = {cursor.stream: cursor.position for cursor in cursors}
    return b'{"events":[%b],"next":%b,"gap":%b}' % (
        b",".join(found),
        orjson.dumps(format_position(position)),
        orjson.dumps(describe_gap(holes[0]) if holes else None),
    )


async def _merged(cursors: Sequence[Cursor]) -> AsyncIterator[tuple[str, Item]]:
    """(stream, item) of all streams, by id, until all are at their tails."""
    waiting: dict[str, deque[Item]] = {cursor.stream: deque() for cursor in cursors}
    open_ = {cursor.stream: cursor for cursor in cursors}
    while open_:
        for stream, cursor in tuple(open_.items()):
            if not waiting[stream]:
                waiting[stream].extend(await cursor.read(_BATCH))
                if not waiting[stream] and cursor.at_tail:
                    del open_[stream]
        heads = [(items[0].id, stream) for stream, items in waiting.items() if items]
        if heads and all(waiting[stream] for stream in open_):
            _, stream = min(heads)
            yield stream, waiting[stream].popleft()
