"""Exactly once, in order, none missing: whatever is published, filtered and cut, wherever it is read from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from redis.asyncio import Redis

from tests.support.consumer import Consumer, by_stream
from tests.support.gateway import GatewayProcess, Lane
from tests.support.oracle import expected
from tests.support.redisserver import RedisServer

Start = Callable[..., GatewayProcess]

TYPES = ("sms.sent", "sms.delivered", "voice.ai.initiated", "voice", "order", "a-b_C.9")
CHANNELS = (None, "sms", "tenant/7:x", "voice@eu")
GLOBS = ("*", "sms.*", "voice.*", "voice", "*.sent", "a*9", "order", "no.such", "*i*i*")


Entry = tuple[int, str, str | None, str]
"""Index of the stream, type, channel, payload."""


@dataclass(frozen=True)
class Plan:
    """`bursts` are published one after the other, while connections end after `cuts` bytes each.

    `together`: at the same time; else the cuts come after all has been published, as replays.
    """

    bursts: list[list[Entry]]
    cuts: list[int]
    together: bool


payloads = st.sampled_from(
    ["1", '{"n":9007199254740993}', '"\\ud800"', '{"b":1.0,"a":[]}', '"é\u2028"', '"' + "x" * 900 + '"']
)
entries = st.tuples(st.integers(0, 2), st.sampled_from(TYPES), st.sampled_from(CHANNELS), payloads)
# A flood is longer than any batch or page.
floods = st.tuples(entries, st.sampled_from([600, 1300])).map(lambda drawn: [drawn[0]] * drawn[1])
bursts = st.lists(st.one_of(*[st.lists(entries, min_size=1, max_size=25)] * 11, floods), min_size=1, max_size=6)
cuts = st.lists(st.one_of(st.integers(1, 400), st.integers(1, 6000)), max_size=6)
plans = st.builds(Plan, bursts, cuts, st.booleans())
filters = st.fixed_dictionaries(
    {},
    optional={
        "type": st.lists(st.sampled_from(GLOBS), min_size=1, max_size=3).map(",".join),
        "channel": st.lists(st.sampled_from(["*", "sms", "tenant/*", "*@eu", "voice"]), min_size=1, max_size=2).map(
            ",".join
        ),
    },
)


class Scene:
    """Streams that live through all examples; each example begins at their ends."""

    def __init__(self, redis: RedisServer, names: list[str]) -> None:
        self.redis = redis
        self.names = names

    async def play(self, url: str, plan: Plan, wanted: dict[str, str]) -> None:
        async with self.redis.aclient() as db:
            begin = {name: await self._end(db, name) for name in self.names}
            consumer = Consumer(url, {"stream": ",".join(self.names), **wanted})
            consumer.position = ",".join(f"{name}@{begin[name]}" for name in sorted(self.names))
            publishing = asyncio.ensure_future(self._publish_all(db, plan.bursts))
            if not plan.together:
                await publishing
            for cut in plan.cuts:
                await consumer.read_until_cut(cut, publishing if plan.together else None)
            await publishing
            await consumer.read_to({name: await self._end(db, name) for name in self.names})
            types = wanted["type"].split(",") if "type" in wanted else []
            channels = wanted["channel"].split(",") if "channel" in wanted else []
            got = by_stream(consumer.got)
            for name in self.names:
                log = await db.xrange(name, f"({begin[name]}")
                assert got.get(name, []) == expected(name, log, types, channels)
            assert consumer.gaps == []

    async def _publish_all(self, db: Redis, bursts: list[list[Entry]]) -> None:
        for burst in bursts:
            pipe = db.pipeline(transaction=False)
            for index, type_, channel, data in burst:
                fields = {"type": type_, "data": data}
                if channel is not None:
                    fields["channel"] = channel
                pipe.xadd(self.names[index % len(self.names)], fields)
            await pipe.execute()

    async def _end(self, db: Redis, name: str) -> str:
        newest = await db.xrevrange(name, count=1)
        return newest[0][0].decode() if newest else "0-0"


@pytest.mark.parametrize("window", [20_000, 5], ids=["window", "redis"])
@pytest.mark.parametrize("count", [1, 3], ids=["one", "three"])
def test_concatenation_over_reconnects_is_the_filtered_log(
    valkey: RedisServer, shared_gateway: Start, lane: Lane, window: int, count: int
) -> None:
    gateway = shared_gateway(lane, window_events=window)
    scene = Scene(valkey, [f"t.once.{lane}.{window}.{count}.{i}" for i in range(count)])

    @settings(max_examples=12)
    @given(plan=plans, wanted=filters)
    def run(plan: Plan, wanted: dict[str, str]) -> None:
        asyncio.run(scene.play(gateway.url, plan, wanted))

    run()
