"""What kind of Redis this is, and whether it is fit to hold the log."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from gateway.backend.connection import Redis, connect
from gateway.backend.masking import masked_url

OLDEST = (6, 2)
_SAFE_POLICY = "noeviction"


class RedisProblem(Exception):
    """Redis cannot be used; the message is one sentence for people, without secrets."""


class RedisLoading(RedisProblem):
    """It answers, but is still loading its data: that ends by itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict. `severity` is ``ok``, ``warning`` or ``error``."""

    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class RedisReport:
    """What the server says of itself. Sizes in bytes, 0 for no limit; times in seconds."""

    product: str
    version: str
    compatible: tuple[int, int]
    """The version of Redis whose commands it has."""
    round_trip: float
    clock_ahead: float
    role: str
    eviction_policy: str
    memory: int
    memory_limit: int
    append_only: bool
    snapshots: bool
    writes_fail: bool

    @property
    def name(self) -> str:
        """``Valkey 9.1.2``."""
        return f"{self.product} {self.version}"

    def findings(self) -> list[Finding]:
        """The verdicts, one on each point."""
        return [self._age(), self._role(), self._eviction(), self._memory(), self._persistence(), self._clock()]

    def problems(self) -> list[Finding]:
        """The verdicts that are not ``ok``."""
        return [finding for finding in self.findings() if finding.severity != "ok"]

    def _age(self) -> Finding:
        if self.compatible < OLDEST:
            return Finding("error", f"{self.name} is too old: Redis 6.2 or later, or Valkey, is needed")
        return Finding("ok", self.name)

    def _role(self) -> Finding:
        if self.role != "master":
            return Finding(
                "warning", "this is a read-only replica: events can be read from it, but not published to it"
            )
        return Finding("ok", "takes writes")

    def _eviction(self) -> Finding:
        policy = self.eviction_policy
        if policy and policy != _SAFE_POLICY and not policy.startswith("volatile-"):
            return Finding(
                "warning", f"eviction policy {policy} can drop whole streams when memory is full; set {_SAFE_POLICY}"
            )
        return Finding("ok", f"eviction policy {policy or 'unknown'}")

    def _memory(self) -> Finding:
        if not self.memory_limit:
            return Finding("ok", f"memory {_megabytes(self.memory)}, no limit")
        share = self.memory / self.memory_limit
        text = f"memory {_megabytes(self.memory)} of {_megabytes(self.memory_limit)} ({share:.0%})"
        return Finding("warning" if share > 0.85 else "ok", text)

    def _persistence(self) -> Finding:
        if self.writes_fail:
            return Finding("error", "its last write to disk failed: it refuses to store events; see its log")
        if self.append_only:
            return Finding("ok", "append-only file")
        if self.snapshots:
            return Finding("warning", "snapshots only: a crash loses the events since the last one; set appendonly yes")
        return Finding("warning", "no persistence: a restart of Redis loses every event; set appendonly yes")

    def _clock(self) -> Finding:
        if abs(self.clock_ahead) > 2:
            return Finding(
                "warning",
                f"its clock is {abs(self.clock_ahead):.1f} s {'ahead of' if self.clock_ahead > 0 else 'behind'} ours: "
                "ids, since=10m and retention go by its clock",
            )
        return Finding("ok", "clocks agree")


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


async def inspect(url: str, *, timeout: float = 3.0, now: Callable[[], float] = time.time) -> RedisReport:
    """Ask the Redis at `url`. Raises `RedisProblem` when it cannot be reached or used, `RedisLoading` when not yet."""
    try:
        client = connect(url, name="gateway-inspection", timeout=timeout, connections=1)
    except (ValueError, OSError) as error:
        raise RedisProblem(f"the Redis URL {masked_url(url)} is not valid: {error}") from None
    try:
        async with asyncio.timeout(timeout * 2):
            return await _ask(client, now)
    except TypeError as error:  # an option in the query that the client library does not know
        raise RedisProblem(f"the Redis URL {masked_url(url)} is not valid: {str(error).rpartition(') ')[2]}") from None
    except BusyLoadingError as error:
        raise RedisLoading(explain(error, url)) from None
    except (RedisError, OSError) as error:
        raise RedisProblem(explain(error, url)) from None
    finally:
        await client.aclose()


async def inspect_loaded(url: str, *, patience: float, waiting: Callable[[str], None]) -> RedisReport:
    """As `inspect`, but a Redis that is still loading its data gets `patience` seconds; `waiting` is told so once."""
    until = time.monotonic() + patience
    loading = False
    while True:
        try:
            return await inspect(url)
        except RedisLoading:
            if time.monotonic() >= until:
                raise
            if not loading:
                waiting(f"Redis at {masked_url(url)} is still loading its data; waiting up to {patience:g} s for it")
            loading = True
        except RedisProblem:
            # Between two slices of its data it answers nothing, which looks like a timeout.
            if not loading or time.monotonic() >= until:
                raise
        await asyncio.sleep(0.2)


async def _ask(client: Redis, now: Callable[[], float]) -> RedisReport:
    await client.ping()
    began, wall = time.monotonic(), now()
    for _ in range(5):
        await client.ping()
    round_trip = (time.monotonic() - began) / 5
    seconds, micros = await client.time()
    info: Mapping[str, Any] = await client.info("all")
    redis_version = str(info.get("redis_version", "0.0"))
    numbers = [int(part) for part in re.findall(r"\d+", redis_version)[:2]] + [0, 0]
    return RedisReport(
        product="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version", redis_version)),
        compatible=(numbers[0], numbers[1]),
        round_trip=round_trip,
        clock_ahead=seconds + micros / 1e6 - wall,
        role=str(info.get("role", "master")),
        eviction_policy=str(info.get("maxmemory_policy", "")),
        memory=int(info.get("used_memory", 0)),
        memory_limit=int(info.get("maxmemory", 0)),
        append_only=bool(info.get("aof_enabled", 0)),
        snapshots=await _snapshots(client, info),
        writes_fail=_writes_fail(info),
    )


async def _snapshots(client: Redis, info: Mapping[str, Any]) -> bool:
    try:
        return bool((await client.config_get("save")).get("save"))
    except ResponseError:  # managed services forbid CONFIG; a snapshot that was made is the next best sign
        return int(info.get("rdb_saves", 0)) > 0


def _writes_fail(info: Mapping[str, Any]) -> bool:
    aof_failed = bool(info.get("aof_enabled")) and info.get("aof_last_write_status", "ok") != "ok"
    return aof_failed or str(info.get("rdb_last_bgsave_status", "ok")) != "ok"


def explain(error: BaseException, url: str) -> str:
    """Why the Redis at `url` cannot be used, as one sentence."""
    where = masked_url(url)
    text = str(error)
    missing = "NOAUTH" in text or "authentication required" in text.lower()
    if missing or isinstance(error, AuthenticationError) or "WRONGPASS" in text:
        return f"Redis at {where} {'needs a password' if missing else 'refused the user name or password'}"
    if isinstance(error, NoPermissionError):
        return f"Redis at {where} does not let this user run what the gateway needs: {text}"
    if isinstance(error, BusyLoadingError):
        return f"Redis at {where} is still loading its data; try again in a moment"
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, ssl.SSLError) or "SSL" in text:
        return f"no TLS connection to Redis at {where}: {getattr(cause, 'reason', None) or text}"
    if isinstance(cause, ConnectionRefusedError) or "refused" in text.lower():
        return f"Redis at {where} refused the connection: is it running?"
    if isinstance(cause, FileNotFoundError):
        return f"there is no socket at {where}"
    if "Name or service" in text or "nodename" in text or "Temporary failure in name" in text:
        return f"the host of {where} cannot be found"
    if isinstance(error, TimeoutError) or "timeout" in text.lower() or "timed out" in text.lower():
        return f"Redis at {where} does not answer{' over TLS' if url.startswith('rediss:') else ''}"
    if isinstance(error, InvalidResponse) or "Protocol Error" in text:
        return f"what answers at {where} is not a Redis"
    return f"Redis at {where} cannot be used: {text}"
