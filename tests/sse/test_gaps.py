"""A gap is told first, and only when there is one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.support.gateway import GatewayProcess, Lane
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]


@pytest.fixture
def log(any_redis: RedisServer) -> Iterator[redis.Redis]:
    """A client of each kind of server in turn."""
    with any_redis.client() as client:
        yield client


@pytest.fixture
def served(any_redis: RedisServer, lane: Lane, shared_gateway: Start) -> GatewayProcess:
    """A gateway with a window of three events over that server: what is older comes from Redis."""
    return shared_gateway(lane, redis_url=any_redis.url, window_events=3)


def add(log: redis.Redis, stream: str, *ids: str, type_: str = "a.b") -> list[str]:
    """Entries with these ids; ``*`` lets Redis choose. The payload is the id asked for."""
    return [log.xadd(stream, {"type": type_, "data": json.dumps(i)}, id=i).decode() for i in ids]


def ids(stream: EventStream) -> list[str]:
    return [json.loads(message.data)["id"] for message in stream.events]


def gap(stream: str, requested: str, resumed_at: str, reason: str) -> dict[str, Any]:
    return {"stream": stream, "requested": requested, "resumed_at": resumed_at, "reason": reason}


async def resume(gateway: GatewayProcess, stream: str, position: str) -> EventStream:
    """Reconnect at `position` and read until caught up."""
    opened = await subscribe(gateway.url, {"stream": stream}, last_event_id=position)
    assert opened.status == 200, bytes(opened.body)
    await opened.told("caught-up")
    return opened


async def test_trimmed_position(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, *(f"{n}-0" for n in range(1, 11)))
    log.xtrim(stream, maxlen=4, approximate=False)
    async with await resume(served, stream, "3-0") as opened:
        assert opened.names[0] == "gateway.gap"
        assert opened.control("gap") == gap(stream, "3-0", "6-18446744073709551615", "trimmed")
        assert opened.headers["gateway-position"] == "6-18446744073709551615"
        assert ids(opened) == ["7-0", "8-0", "9-0", "10-0"]


@pytest.mark.parametrize("position", ["6-18446744073709551615", "7-0", "8-0", "10-0"])
async def test_no_gap_when_nothing_after_the_position_is_gone(
    served: GatewayProcess, log: redis.Redis, stream: str, position: str
) -> None:
    add(log, stream, *(f"{n}-0" for n in range(1, 11)))
    log.xtrim(stream, maxlen=4, approximate=False)
    async with await resume(served, stream, position) as opened:
        assert opened.controls("gap") == []
        assert ids(opened) == [f"{n}-0" for n in range(7, 11) if n > int(position.split("-")[0])]


async def test_the_beginning_of_a_trimmed_stream_is_a_gap(
    served: GatewayProcess, log: redis.Redis, stream: str
) -> None:
    add(log, stream, "1-0", "2-0", "3-0")
    log.xtrim(stream, maxlen=1, approximate=False)
    async with await resume(served, stream, "0-0") as opened:
        assert opened.control("gap") == gap(stream, "0-0", "2-18446744073709551615", "trimmed")
        assert ids(opened) == ["3-0"]


async def test_the_beginning_of_a_whole_stream_is_none(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, "1-0", "2-0", "3-0", "4-0", "5-0")
    async with await resume(served, stream, "0-0") as opened:
        assert opened.controls("gap") == []
        assert ids(opened) == ["1-0", "2-0", "3-0", "4-0", "5-0"]


async def test_all_trimmed(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, "1-0", "2-0", "3-0")
    log.xtrim(stream, maxlen=0, approximate=False)
    async with await resume(served, stream, "1-0") as behind, await resume(served, stream, "3-0") as at_end:
        assert behind.control("gap") == gap(stream, "1-0", "3-0", "trimmed")
        assert at_end.controls("gap") == []
        add(log, stream, "4-0")
        await behind.has(1)
        await at_end.has(1)
        assert ids(behind) == ids(at_end) == ["4-0"]


async def test_position_ahead_of_the_stream(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, "1-0", "2-0")
    async with await resume(served, stream, "9-0") as opened:
        assert opened.control("gap") == gap(stream, "9-0", "0-0", "recreated")
        assert ids(opened) == ["1-0", "2-0"]


async def test_position_in_a_stream_that_does_not_exist(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    async with await resume(served, stream, "5-0") as opened:
        assert opened.control("gap") == gap(stream, "5-0", "0-0", "recreated")
        add(log, stream, "1-0")
        await opened.has(1)
        assert ids(opened) == ["1-0"]


@pytest.mark.parametrize("new", [["1-0", "2-0"], ["11-0", "12-0"], ["11-0"]], ids=" ".join)
async def test_recreated_between_two_connections(
    served: GatewayProcess, log: redis.Redis, stream: str, new: list[str]
) -> None:
    add(log, stream, "4-0", "10-0")
    async with await resume(served, stream, "0-0") as first:
        assert ids(first) == ["4-0", "10-0"]
    log.delete(stream)
    add(log, stream, *new)
    async with await resume(served, stream, "10-0") as opened:
        assert opened.names[0] == "gateway.gap"
        assert opened.control("gap") == gap(stream, "10-0", "0-0", "recreated")
        assert ids(opened) == new


@pytest.mark.parametrize(
    "new", [["1-0"], ["11-0"], ["11-0", "12-0"], ["1-0", "2-0", "12-0"], ["11-0", "12-0", "13-0", "14-0"]], ids=" ".join
)
async def test_recreated_while_people_listen(
    served: GatewayProcess, log: redis.Redis, stream: str, new: list[str]
) -> None:
    add(log, stream, "4-0", "10-0")
    async with await resume(served, stream, "4-0") as opened:
        pipe = log.pipeline(transaction=True)
        pipe.delete(stream)
        for entry_id in new:
            pipe.xadd(stream, {"type": "a.b", "data": "1"}, id=entry_id)
        pipe.execute()
        await opened.has(1 + len(new))
        assert opened.names == ["a.b", "gateway.caught-up", "gateway.gap", *["a.b"] * len(new)]
        assert opened.control("gap") == gap(stream, "10-0", "0-0", "recreated")
        assert ids(opened) == ["10-0", *new]


async def test_deleted_while_people_listen(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, "1-0", "2-0")
    async with await resume(served, stream, "2-0") as opened:
        log.delete(stream)
        assert await opened.told("gap") == gap(stream, "2-0", "0-0", "recreated")
        add(log, stream, "1-0", "2-0")
        await opened.has(2)
        assert ids(opened) == ["1-0", "2-0"]
        assert len(opened.controls("gap")) == 1


async def test_renamed_while_people_listen(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    """The old stream under a new name is there whole; the old name starts again from nothing."""
    new = stream + ".new"
    add(log, stream, "1-0", "2-0")
    async with await resume(served, stream, "2-0") as opened:
        log.rename(stream, new)
        assert (await opened.told("gap"))["reason"] == "recreated"
        add(log, stream, "3-0")
        await opened.has(1)
        assert ids(opened) == ["3-0"]
    async with await resume(served, new, "1-0") as moved:
        assert moved.controls("gap") == []
        assert ids(moved) == ["2-0"]


async def test_another_stream_renamed_over_this_one(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    other = stream + ".other"
    add(log, stream, "1-0", "5-0")
    add(log, other, *(f"{n}-0" for n in range(2, 9)))
    async with await resume(served, stream, "5-0") as opened:
        log.rename(other, stream)
        await opened.told("gap")
        assert await wait_until(lambda: ids(opened) and ids(opened)[-1] == "8-0")
        assert opened.names[1] == "gateway.gap"
        assert len(set(ids(opened))) == len(ids(opened))


async def test_recreated_by_a_stream_longer_than_any_batch(
    served: GatewayProcess, log: redis.Redis, stream: str
) -> None:
    other = stream + ".other"
    add(log, stream, "1-0", "2-0")
    pipe = log.pipeline(transaction=False)
    for n in range(3, 4503):
        pipe.xadd(other, {"type": "a.b", "data": "1"}, id=f"{n}-0")
    pipe.execute()
    async with await resume(served, stream, "2-0") as opened:
        log.rename(other, stream)
        await wait_until(lambda: ids(opened)[-1:] == ["4502-0"])
        assert ids(opened) == [f"{n}-0" for n in range(3, 4503)]
        assert opened.names[1] == "gateway.gap"


async def test_stream_that_holds_one_entry_tells_its_listeners_no_gap(
    served: GatewayProcess, log: redis.Redis, stream: str
) -> None:
    async with await subscribe(served.url, {"stream": stream}) as opened:
        await opened.told("caught-up")
        for n in range(1, 30):
            log.xadd(stream, {"type": "a.b", "data": str(n)}, id=f"{n}-0", maxlen=1, approximate=False)
            await opened.has(n)
        assert opened.controls("gap") == []
    # What this process read itself it knows to be whole.
    async with await resume(served, stream, "28-0") as opened:
        assert opened.controls("gap") == []
        assert ids(opened) == ["29-0"]
    async with await resume(served, stream, "20-0") as opened:
        assert opened.names[0] == "gateway.gap"
        assert ids(opened)[-1] == "29-0"


async def test_entries_deleted_one_by_one(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, *(f"{n}-0" for n in range(1, 9)))
    log.xdel(stream, "3-0", "8-0")
    async with await resume(served, stream, "2-0") as opened:
        assert opened.controls("gap") == []
        assert ids(opened) == ["4-0", "5-0", "6-0", "7-0"]
        add(log, stream, "9-0")
        log.xdel(stream, "9-0")
        add(log, stream, "10-0")
        await wait_until(lambda: ids(opened)[-1] == "10-0")
        assert opened.controls("gap") == []


async def test_trimmed_while_a_listener_is_at_the_tail(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, *(f"{n}-0" for n in range(1, 9)))
    async with await resume(served, stream, "8-0") as opened:
        log.xtrim(stream, maxlen=0, approximate=False)
        add(log, stream, "9-0")
        await opened.has(1)
        assert opened.names == ["gateway.caught-up", "a.b"]


async def test_trimmed_ahead_of_a_listener(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    """The process was held while entries came and went."""
    add(log, stream, "1-0")
    async with await resume(served, stream, "1-0") as opened:
        served.child.signal(signal.SIGSTOP)
        try:
            add(log, stream, *(f"{n}-0" for n in range(2, 12)))
            log.xtrim(stream, maxlen=2, approximate=False)
        finally:
            served.child.signal(signal.SIGCONT)
        await wait_until(lambda: ids(opened)[-1:] == ["11-0"], lambda: f"the last one, after {opened.messages}")
        # The read that was under way when the process was held may have brought the first one.
        assert ids(opened) in (["10-0", "11-0"], ["2-0", "10-0", "11-0"])
        assert opened.names[-3:] == ["gateway.gap", "a.b", "a.b"]
        assert opened.control("gap")["reason"] == "trimmed"


async def test_empty_stream(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    log.xgroup_create(stream, "somebody", mkstream=True)
    async with await resume(served, stream, "0-0") as opened:
        assert opened.names == ["gateway.caught-up"]
        add(log, stream, "1-0")
        await opened.has(1)


async def test_gap_in_one_of_three_streams(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    names = [f"{stream}.{letter}" for letter in "abc"]
    for name in names:
        add(log, name, "1-0", "2-0", "3-0")
    log.xtrim(names[1], maxlen=1, approximate=False)
    position = ",".join(f"{name}@1-0" for name in names)
    async with await subscribe(served.url, {"stream": ",".join(names)}, last_event_id=position) as opened:
        await opened.told("caught-up")
        assert opened.control("gap") == gap(names[1], "1-0", "2-18446744073709551615", "trimmed")
        assert opened.names[0] == "gateway.gap"
        assert sorted(ids(opened)) == ["2-0", "2-0", "3-0", "3-0", "3-0"]


async def test_fresh_reader_of_a_recreated_stream_sees_each_event_once(
    served: GatewayProcess, log: redis.Redis, stream: str
) -> None:
    """The reader of the process learns of the new life a moment later than a request that looks itself."""
    add(log, stream, *(f"{n}-0" for n in range(100, 120)))
    async with await resume(served, stream, "119-0"):
        log.delete(stream)
        add(log, stream, *(f"{n}-0" for n in range(1, 12)))
        async with await subscribe(served.url, {"stream": stream, "since": "earliest"}) as opened:
            await wait_until(lambda: ids(opened)[-1:] == ["11-0"])
            await opened.told("caught-up")
            add(log, stream, "12-0")
            await wait_until(lambda: ids(opened)[-1] == "12-0")
            new = ids(opened)[ids(opened).index("1-0") :]
            assert new == [f"{n}-0" for n in range(1, 13)]


async def test_gap_without_control_events_is_left_out(served: GatewayProcess, log: redis.Redis, stream: str) -> None:
    add(log, stream, "1-0", "2-0", "3-0")
    log.xtrim(stream, maxlen=1, approximate=False)
    async with await subscribe(served.url, {"stream": stream, "control": "false"}, last_event_id="1-0") as opened:
        await opened.has(1)
        assert opened.names == ["a.b"]
