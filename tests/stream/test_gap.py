"""The verdict on a position, over a real stream that is added to, trimmed, deleted from and recreated at random."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from gateway.backend.connection import connect
from gateway.events.position import ZERO, make_id
from gateway.stream.gap import MISSING, StreamInfo, verdict
from gateway.stream.store import Store
from tests.support.redisserver import RedisServer

steps = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 4)),
    st.tuples(st.just("trim"), st.integers(0, 5)),
    st.tuples(st.just("recreate"), st.integers(0, 3)),
)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.parametrize("born_later", [True, False])
def test_lost_events_are_a_gap_and_whole_ones_are_none(
    any_redis: RedisServer, runner: asyncio.Runner, stream: str, born_later: bool
) -> None:
    client = connect(any_redis.url)
    store = Store(client)

    async def look(plan: list[tuple[str, int]]) -> None:
        await client.delete(stream)
        here: list[int] = []  # what the stream holds
        ever: list[int] = []  # what this life of it ever held
        earlier: set[int] = set()  # what earlier lives held
        clock = 0
        for what, n in plan:
            if what == "add":
                for _ in range(n):
                    clock += 2
                    await client.xadd(stream, {"type": "a", "data": "1"}, id=f"{clock}-0")
                    here.append(clock)
                    ever.append(clock)
            elif what == "trim":
                await client.xtrim(stream, maxlen=n, approximate=False)
                here = here[len(here) - min(n, len(here)) :]
            else:
                await client.delete(stream)
                earlier |= set(ever)
                here, ever = [], []
                clock = clock if born_later else n
        info = await store.info(stream)
        assert info.start <= make_id(here[0] if here else clock)
        for position in sorted({*ever, *(earlier if born_later else ()), 0}):
            gap = verdict(stream, make_id(position), info)
            lost = [one for one in ever if one > position and one not in here]
            if position in ever or position == 0:
                # Two apart, so that the place next to the first entry is no entry: Redis cannot tell those apart.
                assert (gap is not None) >= bool(lost), (position, here, ever, info)
                untouched = here == ever
                assert gap is None or not untouched, (position, here, ever, info)
            elif ever and position < min(ever):
                assert gap is not None
            if gap is not None:
                assert all(make_id(one) > gap.id for one in here)
                assert gap.requested == make_id(position)

    @settings(max_examples=40)
    @given(st.lists(steps, max_size=8))
    def run(plan: list[tuple[str, int]]) -> None:
        runner.run(look(plan))

    try:
        run()
    finally:
        runner.run(client.delete(stream))
        runner.run(client.aclose())


def info(first: int | None, last: int, length: int, added: int | None) -> StreamInfo:
    return StreamInfo(length, make_id(last), None if first is None else make_id(first), added)


@pytest.mark.parametrize(
    ("position", "state", "reason"),
    [
        (make_id(5), info(1, 9, 9, 9), None),
        (make_id(9), info(1, 9, 9, 9), None),
        (make_id(10), info(1, 9, 9, 9), "recreated"),
        (ZERO, info(1, 9, 9, 9), None),
        (ZERO, info(4, 9, 6, 9), "trimmed"),
        (make_id(2), info(4, 9, 6, 9), "trimmed"),
        (make_id(4) - 1, info(4, 9, 6, 9), None),
        (make_id(4), info(4, 9, 6, 9), None),
        (make_id(2), info(4, 9, 6, 6), "recreated"),
        (make_id(3), info(None, 9, 0, 9), "trimmed"),
        (make_id(9), info(None, 9, 0, 9), None),
        (ZERO, MISSING, None),
        (make_id(1), MISSING, "recreated"),
        # Redis before 7.0 does not count: what may be gone is told, but for the start of a stream nobody knows.
        (make_id(2), info(4, 9, 6, None), "trimmed"),
        (ZERO, info(4, 9, 6, None), None),
    ],
)
def test_verdicts(position: int, state: StreamInfo, reason: str | None) -> None:
    gap = verdict("s", position, state)  # type: ignore[arg-type]
    assert (gap.reason if gap else None) == reason
    assert verdict("s", position, replace(state)) == gap  # type: ignore[arg-type]
