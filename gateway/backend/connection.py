"""Connections to Redis: the one place that knows its client library's options.

Facts that shaped it (redis-py 8): `TimeoutError` is no `ConnectionError`, so callers catch `UNAVAILABLE`; commands are
retried by default, which would store an XADD twice when only its answer was lost, so retries are off; answers of
stream commands are turned into dicts by default, at twice the cost of the raw lists, so those callbacks are removed;
it sends inside `asyncio.wait_for`, which in Python 3.11 forgets a cancellation that comes as the sending ends.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, OutOfMemoryError, RedisError, ResponseError

UNAVAILABLE: Final = (RedisError, OSError)
"""What any command may raise while Redis is away, failing over, loading, full or refusing us."""


_RAW_COMMANDS = ("XREAD", "XRANGE", "XREVRANGE")

__all__ = ["UNAVAILABLE", "AuthenticationError", "OutOfMemoryError", "Redis", "RedisError", "ResponseError", "connect"]


def _mended(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """`kind` whose sending does not swallow cancellations: of tasks cancelled in a command, 6 % went on for ever.

    And that says so as others do when its socket was closed before: uvloop raises `RuntimeError`, where asyncio logs.
    """

    class Mended(kind):  # type: ignore[valid-type,misc]
        async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
            task = asyncio.current_task()
            before = task.cancelling() if task else 0
            writer = self._writer
            try:
                await super().send_packed_command(*args, **kwargs)
            except RuntimeError as error:
                if writer is None or not writer.transport.is_closing():
                    raise
                await self.disconnect(nowait=True)
                raise ConnectionError("the connection was closed") from error
            if task and task.cancelling() > before:
                # The command is on its way and nobody will read its answer.
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError

    return Mended


def connect(url: str, *, name: str = "gateway", timeout: float | None = 5.0, connections: int = 32) -> Redis:
    """A client for `url` (``redis://``, ``rediss://``, ``unix://``; options in the query) with its own pool.

    `timeout` bounds, in seconds, connecting and each answer; a blocking command must block for less; None leaves the
    answers to `gateway.backend.exchange`.  The client opens no connection before its first command, answers bytes, and
    never repeats a command.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout or 2.0, 2.0),
        # Connections over a Unix socket know no such option, and refuse it.
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        socket_read_size=262_144,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name=name,
        decode_responses=False,
    )
    pool.connection_class = _mended(pool.connection_class)
    client: Redis = Redis.from_pool(pool)
    for command in _RAW_COMMANDS:
        client.response_callbacks.pop(command, None)
    return client
