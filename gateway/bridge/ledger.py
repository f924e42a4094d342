"""What must survive of deliveries: positions, retries, the log, replays. The only place that knows their keys.

Each endpoint has its keys under one hash tag.  Writes of its owner carry the owner's epoch, and go through only while
no later owner has claimed the endpoint: a bridge that lost its lease without noticing cannot move a position.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redis.asyncio.lock import Lock
from redis.exceptions import LockError, NoScriptError

from gateway.backend.connection import Redis, ResponseError
from gateway.backend.exchange import Command, Line
from gateway.bridge.ahead import Ahead
from gateway.bridge.delivery import Delivery
from gateway.bridge.job import CANCELLED, read_jobs
from gateway.bridge.scripts import CLAIM, COMMIT, ENTER
from gateway.events.position import EventId, format_id, parse_id

log = logging.getLogger("gateway.bridge")

__all__ = ["OPS_STREAM", "Commit", "Ledger", "Lock", "LockError", "State", "endpoint_keys"]

OPS_STREAM: Final = "gateway:ops"
_OPS_KEPT: Final = 10_000
_CHUNK: Final = 500
_PAGE: Final = 200
_PATIENCE: Final = 5.0
"""Seconds for Redis to take a commit."""

_NAMES: Final = ("state", "records", "log", "retries", "retry", "replays")


def endpoint_keys(endpoint_id: str) -> list[str]:
    """All keys of an endpoint, the state first."""
    return [f"gateway:{{{endpoint_id}}}:{name}" for name in _NAMES]


@dataclass(frozen=True, slots=True)
class State:
    """What an owner finds. Times are Unix seconds."""

    position: EventId
    ahead: Ahead
    failing_since: float | None
    retries: int
    next_due: int | None
    """Unix ms of the earliest retry."""
    replays: dict[str, bytes]


@dataclass(slots=True)
class Commit:
    """What one owner has to write for one endpoint, in one transaction. Later values win when two are joined."""

    endpoint_id: str
    epoch: int
    state: dict[str, str] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    """New state of deliveries, with `due` set on those that are to be tried again."""
    replays: dict[str, bytes] = field(default_factory=dict)
    outbox: list[tuple[str, dict[str, str | bytes]]] = field(default_factory=list)
    """Entries for other streams; they go out before the transaction, so that none is lost."""
    oldest: int = 0
    """Unix ms: older log records may go; 0 = do not look."""

    def __bool__(self) -> bool:
        return bool(self.state or self.deliveries or self.replays or self.outbox or self.oldest)


class Ledger:
    """Every method may raise `gateway.backend.connection.UNAVAILABLE`. `logs_kept` bounds the log of an endpoint."""

    def __init__(self, client: Redis, *, logs_kept: int = 1000) -> None:
        self._client: Any = client
        self._line = Line(client)
        self._logs_kept = logs_kept
        self._claim = client.register_script(CLAIM)
        self._commit = hashlib.sha1(COMMIT.encode()).hexdigest()
        self._enter = client.register_script(ENTER)

    async def next_epoch(self) -> int:
        """A number higher than any before: who claims with it wins over all earlier owners."""
        return int(await self._client.incr("gateway:webhooks:epoch"))

    async def claim(self, endpoint_id: str, epoch: int, begin: EventId | None = None) -> State | None:
        """Become the owner; None when the endpoint is gone or a later owner has it.

        `begin` is where an endpoint without a state begins; None: it must have one.
        """
        state, _, _, retries, _, replays = endpoint_keys(endpoint_id)
        args: list[Any] = [epoch, "" if begin is None else format_id(begin)]
        reply = await self._claim(keys=[state, retries, replays], args=args)
        if not reply:
            return None
        fields, count, first, jobs = reply
        known = _pairs(fields)
        since = known.get(b"failing_since", b"")
        return State(
            position=parse_id(known[b"position"].decode()),
            ahead=Ahead.load(known.get(b"ahead", b"").decode()),
            failing_since=float(since) if since else None,
            retries=count,
            next_due=int(float(first[1])) if first else None,
            replays={name.decode(): body for name, body in _pairs(jobs).items()},
        )

    async def commit(self, commits: Sequence[Commit]) -> list[bool]:
        """Write them in one round trip. False: a later owner has the endpoint, or it is gone; nothing was written.

        One call at a time.
        """
        news = [_added(stream, fields) for commit in commits for stream, fields in commit.outbox]
        calls = [(commit, self._call(commit, args)) for commit in commits for args in self._arguments(commit)]
        scripts = [call for _, call in calls]
        replies = await self._line.ask(*news, *scripts, timeout=_PATIENCE)
        for command, reply in zip(news, replies, strict=False):
            if isinstance(reply, ResponseError):
                # What the log cannot take must not hold up deliveries: a stream of replies whose key is something else.
                log.warning("outbox.refused stream=%s error=%s", command[1], reply)
        replies = replies[len(news) :]
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A Redis that was restarted has forgotten the script. Sending it along each time would cost more.
            await self._client.script_load(COMMIT)
            replies = await self._line.ask(*scripts, timeout=_PATIENCE)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        refused = {id(commit) for (commit, _), reply in zip(calls, replies, strict=True) if not reply}
        return [id(commit) not in refused for commit in commits]

    def _call(self, commit: Commit, args: list[Any]) -> Command:
        return ("EVALSHA", self._commit, len(_NAMES), *endpoint_keys(commit.endpoint_id), *args)

    def _arguments(self, commit: Commit) -> list[list[Any]]:
        """The calls of one commit: 500 deliveries each, the position with the last."""
        deliveries = list(commit.deliveries.values())
        chunks = [deliveries[at : at + _CHUNK] for at in range(0, len(deliveries), _CHUNK)] or [[]]
        calls: list[list[Any]] = []
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            bodies = {delivery.id: delivery.dump() for delivery in chunk}
            waiting = [delivery for delivery in chunk if delivery.due is not None]
            args: list[Any] = [commit.epoch, self._logs_kept, commit.oldest]
            for values in (
                _flat(commit.state) if last else [],
                _flat(bodies),
                [part for delivery in chunk for part in (delivery.created, delivery.id)],
                [part for delivery in waiting for part in (delivery.due, delivery.id)],
                [part for delivery in waiting for part in (delivery.id, bodies[delivery.id])],
                [delivery.id for delivery in chunk if delivery.due is None and delivery.in_retries],
                _flat(commit.replays) if last else [],
            ):
                args.append(len(values))
                args += values
            calls.append(args)
        return calls

    async def retries(self, endpoint_id: str, limit: int) -> tuple[list[tuple[int, str]], int]:
        """The first `limit` retries as (due in Unix ms, id), earliest first, and how many there are."""
        key = endpoint_keys(endpoint_id)[3]
        pipe = self._client.pipeline(transaction=False)
        pipe.zrange(key, 0, limit - 1, withscores=True)
        pipe.zcard(key)
        found, count = await pipe.execute()
        return [(int(score), member.decode()) for member, score in found], count

    async def retry_bodies(self, endpoint_id: str, ids: Sequence[str]) -> list[Delivery]:
        """The deliveries behind these ids; those that are gone are left out."""
        raw = await self._client.hmget(endpoint_keys(endpoint_id)[4], list(ids))
        deliveries = [Delivery.load(body) for body in raw if body is not None]
        for delivery in deliveries:
            delivery.in_retries = True
        return deliveries

    async def enter(self, endpoint_id: str, delivery: Delivery) -> bool:
        """Log a delivery that did not come from the owner, and schedule it when it is due. False: it already is."""
        _, records, log, retries, bodies, _ = endpoint_keys(endpoint_id)
        due = "" if delivery.due is None else delivery.due
        args: list[Any] = [delivery.id, delivery.dump(), delivery.created, due]
        return bool(await self._enter(keys=[records, log, retries, bodies], args=args))

    async def log(self, endpoint_id: str, log_id: str) -> Delivery | None:
        """One delivery."""
        raw = await self._client.hget(endpoint_keys(endpoint_id)[1], log_id)
        return None if raw is None else Delivery.load(raw)

    async def logs(
        self, endpoint_id: str, limit: int, before: str | None, status: str | None
    ) -> tuple[list[Delivery], str | None]:
        """The newest deliveries first, after `before` (a log id); and the id to go on from, None at the end."""
        _, records, log, _, _, _ = endpoint_keys(endpoint_id)
        start = 0
        if before is not None:
            rank = await self._client.zrevrank(log, before)
            if rank is None:
                return [], None
            start = rank + 1
        found: list[Delivery] = []
        while True:
            ids = await self._client.zrevrange(log, start, start + _PAGE - 1)
            if not ids:
                return found, None
            start += len(ids)
            for raw in await self._client.hmget(records, ids):
                delivery = None if raw is None else Delivery.load(raw)
                if delivery is None or (status is not None and delivery.status != status):
                    continue
                if len(found) == limit:
                    return found, found[-1].id
                found.append(delivery)

    async def position(self, endpoint_id: str) -> EventId | None:
        """Where the endpoint stands; None when it has no state."""
        raw = await self._client.hget(endpoint_keys(endpoint_id)[0], "position")
        return None if raw is None else parse_id(raw.decode())

    async def facts(self, endpoint_id: str) -> dict[str, str]:
        """The endpoint's state as stored, for people to look at."""
        raw = await self._client.hgetall(endpoint_keys(endpoint_id)[0])
        return {name.decode(): value.decode() for name, value in raw.items()}

    async def positions(self, endpoint_ids: Sequence[str]) -> list[EventId]:
        """Where these endpoints and their running replays stand."""
        pipe = self._client.pipeline(transaction=False)
        for endpoint_id in endpoint_ids:
            pipe.hget(endpoint_keys(endpoint_id)[0], "position")
            pipe.hgetall(endpoint_keys(endpoint_id)[5])
        replies = await pipe.execute()
        found = [parse_id(raw.decode()) for raw in replies[::2] if raw is not None]
        for stored in replies[1::2]:
            jobs = read_jobs({name.decode(): body for name, body in stored.items()})
            found += [job.position for job in jobs if job.status == "running"]
        return found

    async def replays(self, endpoint_id: str) -> dict[str, bytes]:
        """All replay jobs."""
        raw = await self._client.hgetall(endpoint_keys(endpoint_id)[5])
        return {name.decode(): body for name, body in raw.items()}

    async def put_replay(self, endpoint_id: str, job_id: str, body: bytes) -> None:
        """Store a replay job."""
        await self._client.hset(endpoint_keys(endpoint_id)[5], job_id, body)

    async def drop_replays(self, endpoint_id: str, job_ids: Sequence[str]) -> None:
        """Forget replay jobs."""
        fields = [name for job_id in job_ids for name in (job_id, job_id + CANCELLED)]
        await self._client.hdel(endpoint_keys(endpoint_id)[5], *fields)

    async def announce(self, fields: dict[str, str]) -> None:
        """Add an event to ``gateway:ops``."""
        await self._client.xadd(OPS_STREAM, fields, maxlen=_OPS_KEPT, approximate=True)


def _added(stream: str, fields: dict[str, str | bytes]) -> Command:
    limit = ("MAXLEN", "~", _OPS_KEPT) if stream == OPS_STREAM else ()
    return ("XADD", stream, *limit, "*", *_flat(fields))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    it = iter(flat)
    return dict(zip(it, it, strict=False))


def _flat(pairs: dict[str, Any]) -> list[Any]:
    return [part for pair in pairs.items() for part in pair]
