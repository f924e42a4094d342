"""API keys: made, listed, changed and revoked in Redis; known to every process from memory.

A key is ``gwk_`` and 256 random bits.  Redis and memory hold its SHA-256 only: with that much chance in it there is
nothing that a slow hash would protect.  Each process mirrors all keys, so that neither a connect nor a flood of bad
keys costs a Redis command.  Each change sets a new version, which every process asks for twice a second: that is one
command for any number of keys, and unlike a pub/sub message it cannot be missed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from gateway.access.principal import SCOPES, Principal, make_principal
from gateway.backend.connection import UNAVAILABLE, Redis

log = logging.getLogger("gateway.access")

PREFIX: Final = "gwk_"
LENGTH: Final = len(PREFIX) + 43
POLL: Final = 0.5
"""Seconds between two looks at the version; with the read that may follow, well within the 2 s promised."""
_KEYS = "gateway:{keys}"
_VERSION = "gateway:{keys}:version"
_REFRESH_FLOOR = 0.1
_MAX_WAITING = 1000
# Only over what was read: of a revocation and a change at the same moment neither may undo the other.
_WRITE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], ARGV[4])
return 1
"""
_MAX_NAME = 128
_MOST_ABSENT = 10_000
_SHAPE = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}\Z")


class NoSuchKey(Exception):
    """There is no key of this id."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored: `digest` is the hex SHA-256 of its text. Times are Unix seconds."""

    id: str
    digest: str
    name: str
    created: float
    principal: Principal
    revoked: float | None = None

    def dump(self) -> bytes:
        """JSON, for Redis."""
        content = {"digest": self.digest, "name": self.name, "created": self.created, "revoked": self.revoked}
        return orjson.dumps({**content, **_rights(self.principal)})

    def view(self, now: float) -> dict[str, Any]:
        """What is shown of it."""
        state = "revoked" if self.revoked is not None else "expired" if self.principal.expired(now) else "active"
        return {"id": self.id, "name": self.name, "state": state, "created": self.created, **_rights(self.principal)}


def _rights(principal: Principal) -> dict[str, Any]:
    return {name: value for name, value in principal.grant().items() if name not in ("id", "signer")}


def _load(id_: str, raw: bytes) -> KeyRecord:
    content = orjson.loads(raw)
    rights = make_principal(f"key:{id_}", content["scopes"], content, limits=content.get("limits"))
    return KeyRecord(id_, content["digest"], content["name"], content["created"], rights, content["revoked"])


def digest_of(key: str) -> str:
    """Under which a key is stored: SHA-256 in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class KeyStore:
    """The keys in Redis. `now` is Unix seconds; `token_bytes` gives so many random bytes. Raises `UNAVAILABLE`."""

    def __init__(self, client: Redis, now: Callable[[], float], token_bytes: Callable[[int], bytes]) -> None:
        self._client = client
        self._now = now
        self._bytes = token_bytes

    async def create(
        self, name: str, scopes: list[str], rights: Mapping[str, Any], limits: Mapping[str, float] | None = None
    ) -> tuple[KeyRecord, str]:
        """A new key, and its text, which is not kept. Raises `ValueError` for rights that make no sense."""
        key = PREFIX + urlsafe_b64encode(self._bytes(32)).decode().rstrip("=")
        id_ = "key_" + self._bytes(8).hex()
        record = KeyRecord(
            id_, digest_of(key), _name(name), self._now(), _checked(f"key:{id_}", scopes, rights, limits)
        )
        await self._write(None, record)
        return record, key

    async def change(
        self, id_: str, scopes: list[str] | None, rights: Mapping[str, Any], limits: Mapping[str, float] | None = None
    ) -> KeyRecord:
        """Give a key other rights; those that are not named stay. Raises `NoSuchKey`, `ValueError`."""

        def changed(record: KeyRecord) -> KeyRecord:
            old = record.principal.grant()
            merged = {**old["limits"], **(limits or {})}
            new = _checked(record.principal.id, scopes or old["scopes"], {**old, **rights}, merged)
            return replace(record, principal=new)

        return await self._rewrite(id_, changed)

    async def revoke(self, id_: str) -> KeyRecord:
        """End a key. It stays listed. Raises `NoSuchKey`."""

        def revoked(record: KeyRecord) -> KeyRecord:
            return record if record.revoked is not None else replace(record, revoked=self._now())

        return await self._rewrite(id_, revoked)

    async def version(self) -> bytes | None:
        """Different after each change; None while there never was a key."""
        version: bytes | None = await self._run("GET", _VERSION)
        return version

    async def load(self) -> dict[str, KeyRecord]:
        """All keys, by id. One that cannot be read lets nobody in, and is logged."""
        flat = await self._run("HGETALL", _KEYS)
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        records: dict[str, KeyRecord] = {}
        for raw_id, raw in pairs:
            id_ = raw_id.decode("utf-8", "replace")
            try:
                records[id_] = _load(id_, raw)
            except (ValueError, TypeError, KeyError, AttributeError):
                log.error("key.unreadable id=%s", id_)
        return records

    async def _rewrite(self, id_: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        while True:
            raw = await self._run("HGET", _KEYS, id_)
            if raw is None:
                raise NoSuchKey(id_)
            record = change(_load(id_, raw))
            if await self._write(raw, record):
                return record

    async def _write(self, old: bytes | None, record: KeyRecord) -> bool:
        # The version is chance, not a count: a wiped and refilled Redis must not look unchanged.
        version = self._bytes(16).hex()
        done = await self._run("EVAL", _WRITE, 2, _KEYS, _VERSION, record.id, old or b"", record.dump(), version)
        return bool(done)

    async def _run(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]


def _name(name: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise ValueError(f"name: must be 1 to {_MAX_NAME} printable characters")
    return name


def _checked(id_: str, scopes: list[str], rights: Mapping[str, Any], limits: Mapping[str, float] | None) -> Principal:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise ValueError(f"scopes: must be of {', '.join(SCOPES)}" + (f", not {', '.join(unknown)}" if unknown else ""))
    return make_principal(id_, scopes, rights, limits=limits)


class KeyRing:
    """The keys as this process knows them. `clock` is monotonic seconds, `now` Unix seconds."""

    def __init__(self, store: KeyStore, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._records: dict[str, KeyRecord] = {}
        self._by_digest: dict[str, KeyRecord] = {}
        # Those that were asked for, by BLAKE2b: with cold caches, as in a storm, OpenSSL's SHA-256 takes 11 us, this 4.
        self._asked: dict[bytes, KeyRecord] = {}
        self._absent: set[str] = set()
        self._version: bytes | None = None
        self._looked = -_REFRESH_FLOOR
        self._looking: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None
        self._waiting = 0
        self.listeners: list[Callable[[], None]] = []
        """Called after each change of any key and when one has expired; they must not block and not raise."""
        self._next_end = math.inf
        self.loaded = False
        """Whether Redis has ever answered."""
        self.ever_any = False
        """Whether there has ever been a key, seen from this process: once closed, always closed."""

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._records)} keys>"

    def current(self, id_: str) -> Principal | None:
        """The rights that ``key:<id>`` has now; None when it is revoked, expired or gone."""
        return self._rights(self._records.get(id_.removeprefix("key:")))

    def recall(self, key: str) -> Principal | None:
        """Whose key this is, if it is good. Raises `LookupError` for one that only Redis can tell about."""
        quick = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        record = self._asked.get(quick)
        if record is not None:
            return self._rights(record)
        digest = digest_of(key)
        record = self._by_digest.get(digest)
        if record is not None and hmac.compare_digest(record.digest, digest):
            self._asked[quick] = record
            return self._rights(record)
        if digest in self._absent or _SHAPE.match(key) is None:
            return None
        raise LookupError

    def _rights(self, record: KeyRecord | None) -> Principal | None:
        if record is None or record.revoked is not None or record.principal.expired(self._now()):
            return None
        return record.principal

    async def find(self, key: str) -> Principal | None:
        """Whose key this is, if it is good. Raises nothing: with Redis away memory answers."""
        with suppress(LookupError):
            return self.recall(key)
        if self._waiting >= _MAX_WAITING or not await self.refresh():
            return None
        with suppress(LookupError):
            return self.recall(key)
        # A key is chance: one that was not there will never be.
        if len(self._absent) >= _MOST_ABSENT:
            self._absent.clear()
        self._absent.add(digest_of(key))
        return None

    async def refresh(self) -> bool:
        """Look at the version, and read the keys if it is another. False when Redis is away.

        Sees what was there when it was called: a key that was made a moment ago.  All callers share one look, and there
        are at most ten a second, so that unknown keys can be tried at any rate.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._look_soon(self._looking), name="keys")
        self._waiting += 1
        try:
            return await asyncio.shield(self._next)
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Keep up with changes, and with the time, for ever."""
        away = False
        while True:
            known = await self.refresh()
            if away == known:
                away = not known
                log.warning("keys.redis_%s", "away" if away else "back")
            if self._now() >= self._next_end:
                self._tell()
            await asyncio.sleep(POLL)

    async def stop(self) -> None:
        """Leave no task behind."""
        tasks = [task for task in (self._next, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_soon(self, before: asyncio.Task[bool] | None) -> bool:
        # A look under way may have passed Redis before the key was made that this one is for.
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        await asyncio.sleep(self._looked + _REFRESH_FLOOR - self._clock())
        self._looking, self._next = self._next, None
        return await self._look()

    async def _look(self) -> bool:
        try:
            version = await self._store.version()
            if version != self._version or not self.loaded:
                # The version was read first: a change in between makes one more reading, never a missed one.
                self._take(await self._store.load(), version)
            self.loaded = True
        except UNAVAILABLE:
            return False
        finally:
            self._looked = self._clock()
        return True

    def _take(self, records: dict[str, KeyRecord], version: bytes | None) -> None:
        self._records, self._version = records, version
        self._by_digest = {record.digest: record for record in records.values()}
        self._asked.clear()
        self._absent.clear()
        self.ever_any = self.ever_any or bool(records)
        self._tell()

    def _tell(self) -> None:
        now = self._now()
        ends = [record.principal.expires_at for record in self._records.values() if record.revoked is None]
        self._next_end = min((end for end in ends if end is not None and end > now), default=math.inf)
        for listener in tuple(self.listeners):
            listener()
