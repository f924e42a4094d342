"""Open subscriptions: counted, limited, ended when rights change."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.limits import Bucket, Limits, OverLimit, Rates
from gateway.access.principal import ANONYMOUS, Principal, make_principal
from gateway.access.sessions import Reason, Session, Sessions
from gateway.events.filter import Filter, channel_globs

EVENTS = ("events",)


class World:
    """Sessions under limits, with a clock in hand."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.sessions = Sessions(Limits(**limits), lambda: self.now)
        self.ended: dict[int, Reason] = {}

    def open(self, caller: Principal = ANONYMOUS, *channels: str, ip: str | None = None, watch: bool = True) -> Session:
        session = self.sessions.open(caller, Filter(channels=channel_globs(channels)), EVENTS, ip)
        if watch:
            session.watch(self.watcher(session))
        return session

    def watcher(self, session: Session) -> Callable[[Reason], None]:
        def end(reason: Reason) -> None:
            self.ended[id(session)] = reason

        return end

    def reason(self, session: Session) -> Reason | None:
        return self.ended.get(id(session))


def key(id_: str = "1", **rights: Any) -> Principal:
    limits = rights.pop("limits", None)
    return make_principal(f"key:{id_}", rights.pop("scopes", ["subscribe"]), rights, limits=limits)


def over(reason: str, act: Callable[[], object]) -> OverLimit:
    with pytest.raises(OverLimit) as error:
        act()
    assert error.value.reason == reason and error.value.retry_after >= 1
    return error.value


def test_each_limit_of_connections() -> None:
    world = World(process_connections=5, ip_connections=2, connections=3, filters=2)
    first = world.open(key(), ip="a")
    world.open(key(), ip="a")
    assert not over("ip_connections", lambda: world.open(key(), ip="a")).ours
    world.open(key(), ip="b")
    over("connections", lambda: world.open(key(), ip="c"))
    world.open(key("2"), "x")
    world.open(key("2"), "y")
    assert over("process_connections", lambda: world.open(key("3"))).ours
    first.close()
    first.close()
    over("filters", lambda: world.open(key("2"), "z"))
    world.open(key("2"), "x", ip="a")
    assert len(world.sessions) == 5


def test_a_key_has_limits_of_its_own_and_everybody_has_none() -> None:
    world = World(connections=1)
    for _ in range(3):
        world.open(key(limits={"connections": 3}))
    over("connections", lambda: world.open(key(limits={"connections": 3})))
    for _ in range(3):
        world.open(key("2", limits={"connections": 0}))
        world.open(ANONYMOUS)


def test_replays() -> None:
    world = World(replays=2)
    over_ = dict.fromkeys(range(4), False)
    opened = [world.open(key()) for _ in range(4)]
    opened[0].replay(lambda: over_[0])
    opened[1].replay(lambda: over_[1])
    over("replays", lambda: opened[2].replay(lambda: over_[2]))
    over_[0] = True
    opened[2].replay(lambda: over_[2])
    opened[1].close()
    opened[3].replay(lambda: over_[3])
    over("replays", lambda: opened[0].replay(lambda: False))


def test_nothing_is_left_behind() -> None:
    world = World(process_connections=10_000, ip_connections=10_000, connections=10_000, filters=10_000, replays=5)
    chance = random.Random(7)
    opened: list[Session] = []
    for step in range(5000):
        world.now += 0.01
        if opened and chance.random() < 0.5:
            opened.pop(chance.randrange(len(opened))).close()
        else:
            expires = world.now + chance.random() * 3 if step % 2 else None
            caller = key(str(step % 7), expires_at=expires)
            opened.append(world.open(caller, f"c{step % 5}", ip=f"i{step % 3}"))
        if step % 50 == 0:
            world.sessions.expire()
    assert len(world.sessions) == len(opened)
    for session in opened:
        session.close()
    left = (world.sessions._accounts, world.sessions._by_ip, world.sessions._due)
    assert len(world.sessions) == 0 and [len(kept) for kept in left] == [0, 0, 0]


def test_expiry() -> None:
    world = World()
    soon, late, never = (world.open(key(expires_at=at)) for at in (1002.4, 1002.6, None))
    world.now = 1002.5
    world.sessions.expire()
    assert [world.reason(s) for s in (soon, late, never)] == ["expired", None, None]
    world.now = 1002.7
    world.sessions.expire()
    assert [world.reason(s) for s in (soon, late, never)] == ["expired", "expired", None]


@pytest.mark.parametrize("jump", [1e9, -1e6])
def test_a_clock_that_jumps(jump: float) -> None:
    world = World()
    session = world.open(key(expires_at=1500.0))
    world.now += jump
    world.sessions.expire()
    assert world.reason(session) == ("expired" if jump > 0 else None)
    world.now = 1501.0
    world.sessions.expire()
    assert world.reason(session) == "expired"


def test_rights_that_change() -> None:
    world = World()
    before = key(channels=["a", "b"], types=["*"])
    all_, a, b = world.open(before), world.open(before, "a"), world.open(before, "b")
    other = world.open(key("2", channels=["a"]))
    narrower = replace(before, channels=channel_globs(["a"]))
    world.sessions.reconsider(lambda caller: narrower if caller.id == "key:1" else caller)
    assert [world.reason(s) for s in (all_, a, b, other)] == ["narrowed", "narrowed", "revoked", None]


def test_the_same_rights_again_end_nothing() -> None:
    world = World()
    session = world.open(key(channels=["a"]))
    world.sessions.reconsider(lambda caller: key(channels=["a"], limits={"replays": 1}))
    assert world.reason(session) is None and session.caller.limits == {"replays": 1}


@pytest.mark.parametrize(
    ("now_allowed", "reason"),
    [
        (None, "revoked"),
        (key(scopes=["publish"]), "revoked"),
        (key(streams=["other"]), "revoked"),
        (key(tenant="t2"), "narrowed"),
        (key(channels=[]), "narrowed"),
        (key(), None),
        (key(expires_at=1001.0), None),
    ],
)
def test_each_change(now_allowed: Principal | None, reason: Reason | None) -> None:
    world = World()
    session = world.open(key())
    world.sessions.reconsider(lambda caller: now_allowed)
    assert world.reason(session) == reason
    world.now = 1001.0
    world.sessions.expire()
    assert world.reason(session) == ("expired" if now_allowed and now_allowed.expires_at else reason)
    session.close()
    assert len(world.sessions._accounts) == len(world.sessions._due) == 0


def test_an_end_before_anybody_watches() -> None:
    world = World()
    session = world.open(key(), watch=False)
    world.sessions.reconsider(lambda caller: None)
    heard: list[Reason] = []
    session.watch(heard.append)
    session.end("expired")
    assert heard == ["revoked"]


def test_bucket() -> None:
    now = 0.0
    bucket = Bucket(10.0, lambda: now)
    assert [bucket.take(1) for _ in range(10)] == [0.0] * 10
    assert bucket.take(1) == pytest.approx(0.1)
    now = 0.1
    assert bucket.take(1) == 0.0 and bucket.take(5) == pytest.approx(0.5)
    now = 10.0
    assert bucket.full and bucket.take(100) == 0.0, "a large batch is slow, not impossible"
    assert bucket.take(1) == pytest.approx(9.1)
    now = 19.0
    assert bucket.take(1) > 0
    now = 19.2
    assert bucket.take(1) == 0.0


def test_rates_are_apart_and_forgotten() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    rates.take("a", "publish_events", 2, 2)
    assert over("publish_events", lambda: rates.take("a", "publish_events", 2, 1)).retry_after == 1
    rates.take("b", "publish_events", 2, 2)
    rates.take("a", "publish_bytes", 2, 2)
    rates.take("a", "publish_events", 0, 1e9)
    now = 100.0
    for n in range(10_001):
        rates.take(f"c{n}", "publish_events", 2, 1)
    assert len(rates._buckets) <= 10_001
