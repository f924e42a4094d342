"""Questions to Redis over one connection: whatever goes wrong, an answer is never taken for another's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.backend.connection import UNAVAILABLE, Redis, ResponseError, connect
from gateway.backend.exchange import Line, exchange
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until


async def ask_line(client: Redis) -> Any:
    line = Line(client)

    async def ask(*commands: Any, timeout: float = 5.0) -> list[Any]:
        return await line.ask(*commands, timeout=timeout)

    return ask


async def ask_pool(client: Redis) -> Any:
    async def ask(*commands: Any, timeout: float = 5.0) -> list[Any]:
        return await exchange(client, *commands, timeout=timeout)

    return ask


@pytest.fixture(params=[ask_line, ask_pool])
async def ask(request: pytest.FixtureRequest, any_redis: RedisServer) -> Any:
    client = connect(any_redis.url, timeout=None, connections=1)
    yield await request.param(client)
    await client.aclose()


async def test_answers_come_in_order_with_errors_among_them(ask: Any) -> None:
    one, error, two = await ask(("ECHO", "1"), ("NO SUCH",), ("ECHO", "2"))
    assert (one, two) == (b"1", b"2")
    assert isinstance(error, ResponseError)


async def test_too_late_an_answer_is_not_the_next_ones(ask: Any) -> None:
    with pytest.raises(TimeoutError):
        await ask(("BLPOP", "nothing.here", "1"), ("ECHO", "late"), timeout=0.05)
    assert await ask(("ECHO", "2")) == [b"2"]


async def test_a_cancelled_question_leaves_nothing_behind(ask: Any) -> None:
    for turns in range(12):
        task = asyncio.create_task(ask(("ECHO", "old"), ("ECHO", "older")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await ask(("ECHO", str(turns))) == [str(turns).encode()]


async def test_a_connection_that_timed_out_is_no_answer(valkey: RedisServer) -> None:
    """The kernel's ETIMEDOUT is a `TimeoutError` too, which redis-py can take for its own and answer nil."""
    client = connect(valkey.url, timeout=None, connections=1)
    line = Line(client)
    assert await line.ask(("ECHO", "1"), timeout=5) == [b"1"]
    reader = line._connection._reader
    waiting = asyncio.create_task(line.ask(("BLPOP", "nothing.here", "5"), timeout=20))
    await wait_until(lambda: reader._waiter is not None, "it waits for the answer")
    reader.set_exception(TimeoutError(110, "Connection timed out"))
    with pytest.raises(UNAVAILABLE):
        await waiting
    assert await line.ask(("ECHO", "3"), timeout=5) == [b"3"]
    await client.aclose()
