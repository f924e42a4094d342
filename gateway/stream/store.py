"""The commands that the log needs of Redis: read, read backwards, append, trim, look.

Everything that leaves here is decoded (`Entry`, `StreamInfo`).  Every method raises one of
`gateway.backend.connection.UNAVAILABLE` when Redis is away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.backend.connection import OutOfMemoryError, Redis, ResponseError
from gateway.backend.exchange import Command, Line, exchange
from gateway.events.alike import decode_page
from gateway.events.event import Entry
from gateway.events.filter import GlobSet
from gateway.events.position import MAX, ZERO, EventId, format_id, read_id
from gateway.stream.gap import MISSING, StreamInfo

Fields = dict[str, bytes]
"""The fields of an entry to be added."""

# All or nothing: a second stream of the wrong type, or one whose ids are used up, must not leave the first half stored.
# The types are looked at first: what was added and deleted again counts as added, and readers would be told of a gap.
# KEYS: the idempotency key ("" for none), then the stream of each entry.
# ARGV: seconds to remember, then per entry the count of its fields and values, and these.
_APPEND = """
local seen = KEYS[1]
if seen ~= '' then
  local ids = redis.call('LRANGE', seen, 0, -1)
  if #ids > 0 then return ids end
end
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE Operation against a key holding the wrong kind of value')
  end
end
local ids, at = {}, 2
for i = 2, #KEYS do
  local n = tonumber(ARGV[at])
  local id = redis.pcall('XADD', KEYS[i], '*', unpack(ARGV, at + 1, at + n))
  if type(id) == 'table' then
    for j = 1, #ids do redis.call('XDEL', KEYS[j + 1], ids[j]) end
    return redis.error_reply(id.err)
  end
  ids[#ids + 1] = id
  at = at + n + 1
end
if seen ~= '' then
  for i = 1, #ids, 1000 do redis.call('RPUSH', seen, unpack(ids, i, math.min(i + 999, #ids))) end
  redis.call('EXPIRE', seen, ARGV[1])
end
return ids
"""


# Four facts of XINFO STREAM. The whole answer carries the first and the last entry with all their data, and would be
# most of what a reader of large events, or a storm of reconnects, gets from Redis.
_LOOK = """
local reply = redis.pcall('XINFO', 'STREAM', KEYS[1])
if reply.err then
  if string.find(reply.err, 'no such key') then return {} end
  return reply
end
local facts = {}
for i = 1, #reply, 2 do facts[reply[i]] = reply[i + 1] end
local first = facts['first-entry']
return {facts['length'], facts['last-generated-id'], first and first[1] or '', facts['entries-added'] or -1}
"""


def _look(stream: str) -> Command:
    return ("EVAL", _LOOK, 1, stream)


def _info(reply: Any) -> StreamInfo:
    if isinstance(reply, Exception):
        raise reply
    if not reply:
        return MISSING
    length, last_id, first_id, added = reply
    return StreamInfo(
        length=length,
        last_id=read_id(last_id),
        first_id=read_id(first_id) if first_id else None,
        entries_added=None if added < 0 else added,
    )


def _entries(stream: str, reply: Any) -> list[Entry]:
    if isinstance(reply, ResponseError):
        raise reply
    return decode_page(stream, reply)


class Store:
    """Stream commands over one client's pool; `tail` keeps one of its connections.

    `timeout` bounds, in seconds, the answer to what is read.
    """

    def __init__(self, client: Redis, timeout: float = 5.0) -> None:
        self._client = client
        self._timeout = timeout
        self._line = Line(client)
        self._append = client.register_script(_APPEND)

    async def info(self, stream: str) -> StreamInfo:
        """The state of the stream."""
        (info,) = await exchange(self._client, _look(stream), timeout=self._timeout)
        return _info(info)

    async def page(self, stream: str, after: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        """Up to `count` entries after `after`, and the state of the stream at the same instant."""
        if after >= MAX:
            return [], await self.info(stream)
        start = format_id(after + 1)
        reply, info = await self._together(("XRANGE", stream, start, "+", "COUNT", count), _look(stream))
        return _entries(stream, reply), _info(info)

    async def page_back(self, stream: str, until: EventId, count: int) -> tuple[list[Entry], StreamInfo]:
        """The last `count` entries at or before `until`, newest first, and the state of the stream."""
        command = ("XREVRANGE", stream, format_id(until), "-", "COUNT", count)
        reply, info = await self._together(command, _look(stream))
        return _entries(stream, reply), _info(info)

    async def tail(self, stream: str, after: EventId, count: int, block_ms: int) -> tuple[list[Entry], StreamInfo]:
        """Wait up to `block_ms` for entries after `after`; then the state of the stream, at or just after that read."""
        reply, info = await self._line.ask(
            ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", stream, format_id(after)),
            _look(stream),
            timeout=block_ms / 1000 + self._timeout,
        )
        if isinstance(reply, Exception):
            raise reply
        return _entries(stream, reply[0][1]) if reply else [], _info(info)

    async def append(
        self, entries: Sequence[tuple[str, Fields]], *, idempotency_key: str | None = None, remember: int = 86_400
    ) -> list[str]:
        """Add (stream, fields) in order, all or nothing; answer their ids.

        With an `idempotency_key` that was used within `remember` seconds nothing is added and the ids of that time are
        answered.  Raises `ResponseError` when Redis refuses one of them (a key that is no stream, out of memory).
        """
        if len(entries) == 1 and idempotency_key is None:
            stream, fields = entries[0]
            raw = await self._command("XADD", stream, "*", *_flat(fields))
            return [raw.decode()]
        arguments: list[Any] = [remember]
        for _, fields in entries:
            flat = _flat(fields)
            arguments += [len(flat), *flat]
        keys = [idempotency_key or "", *(stream for stream, _ in entries)]
        return [raw.decode() for raw in await self._append(keys=keys, args=arguments)]

    async def trim(self, stream: str, *, max_events: int = 0, min_id: EventId = ZERO) -> int:
        """Drop the oldest entries beyond `max_events` (0: no limit) and those below `min_id`; answer how many.

        First whole nodes, at most 10,000 entries a command, so that a long overdue trim holds up nobody (a bare ``~``
        stops after as many and would fall behind a busy stream); then the rest exactly, less than a node.
        """
        limits: list[tuple[str, int | str]] = []
        if max_events:
            limits.append(("MAXLEN", max_events))
        if min_id:
            limits.append(("MINID", format_id(min_id)))
        total = 0
        for strategy, threshold in limits:
            while removed := await self._command("XTRIM", stream, strategy, "~", threshold, "LIMIT", 10_000):
                total += removed
            total += await self._command("XTRIM", stream, strategy, "=", threshold)
        return total

    async def trim_below(self, stream: str, *, max_events: int, min_id: EventId) -> int:
        """Drop the oldest entries beyond about `max_events`, but none at or after `min_id`; answer how many."""
        total = 0
        while (excess := await self._command("XLEN", stream) - max_events) > 0:
            limit = min(excess, 10_000)
            removed = await self._command("XTRIM", stream, "MINID", "~", format_id(min_id), "LIMIT", limit)
            if not removed:
                break
            total += removed
        return total

    async def keys(self, globs: GlobSet) -> list[str]:
        """The streams that exist now and match."""
        names = [glob for glob in globs.globs if "*" not in glob]
        if len(names) < len(globs.globs):
            async for raw in self._client.scan_iter(count=1000, _type="stream"):
                name = raw.decode("utf-8", "replace")
                if name in globs:
                    names.append(name)
        return sorted(set(names))

    async def lock(self, key: str, seconds: float) -> bool:
        """Take a lock that frees itself after `seconds`; False when another process has it."""
        try:
            return bool(await self._command("SET", key, b"1", "NX", "PX", max(1, int(seconds * 1000))))
        except OutOfMemoryError:
            return True  # what is done under the lock makes room: better twice than never

    async def ping(self) -> None:
        """Raise unless Redis answers."""
        await self._command("PING")

    async def _command(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def _together(self, *commands: Command) -> list[Any]:
        """A read and a look, at the same instant. Raises the first error among the answers."""
        *queued, replies = await exchange(self._client, ("MULTI",), *commands, ("EXEC",), timeout=self._timeout)
        for reply in queued:
            if isinstance(reply, OutOfMemoryError):
                return await self._one_after_the_other(*commands)
            if isinstance(reply, Exception):
                raise reply
        for reply in (replies, *replies) if isinstance(replies, list) else (replies,):
            if isinstance(reply, Exception):
                raise reply
        return list(replies)

    async def _one_after_the_other(self, read: Command, look: Command) -> list[Any]:
        """As `_together`, for a Redis that is full: it refuses whatever is in a MULTI, reads too."""
        for _ in range(5):
            before, reply, after = await exchange(self._client, look, read, look, timeout=self._timeout)
            if before == after:
                break
        # Else the later look may tell of a trim that came after the read: a gap too many, never one too few.
        return [reply, after]


def _flat(fields: Fields) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
