"""Connections to Redis: the one place that knows its client library's options.

Facts that shaped it (redis-py 8): `TimeoutError` is no `ConnectionError`, so callers catch `UNAVAILABLE`; commands are
retried by default, which would store an XADD twice when only its answer was lost, so retries are off; answers of
stream commands are turned into dicts by default, at twice the cost of the raw lists, so those callbacks are removed.
"""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

UNAVAILABLE: Final = (RedisError, OSError)
"""What any command may raise while Redis is away, failing over, loading, full or refusing us."""

_RAW_COMMANDS = ("XREAD", "XRANGE", "XREVRANGE", "XINFO STREAM")

__all__ = ["UNAVAILABLE", "AuthenticationError", "Redis", "RedisError", "ResponseError", "connect"]


def connect(url: str, *, name: str = "gateway", timeout: float = 5.0, connections: int = 32) -> Redis:
    """A client for `url` (``redis://``, ``rediss://``, ``unix://``; options in the query) with its own pool.

    `timeout` bounds, in seconds, connecting and each answer; a blocking command must block for less.  The client
    opens no connection before its first command, answers bytes, and never repeats a command.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2.0),
        # Connections over a Unix socket know no such option, and refuse it.
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        socket_read_size=262_144,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name=name,
        decode_responses=False,
    )
    client: Redis = Redis.from_pool(pool)
    for command in _RAW_COMMANDS:
        client.response_callbacks.pop(command, None)
    return client
