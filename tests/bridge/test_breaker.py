"""When an endpoint is tried, and how fast: the breaker and the limit of attempts a second, each by itself."""

from __future__ import annotations

import pytest

from gateway.bridge.breaker import DISABLE_AFTER, THRESHOLD, Breaker
from gateway.bridge.rate import Rate


def breaker(luck: float = 0.0, failing_since: float | None = None) -> Breaker:
    return Breaker(8, failing_since, lambda: luck)


def opened(luck: float = 0.0) -> Breaker:
    """One that opens at 1000."""
    it = breaker(luck)
    assert [it.failed(1000.0) for _ in range(THRESHOLD)] == [False] * (THRESHOLD - 1) + [True]
    return it


def test_failures_with_a_success_between_them_are_not_in_a_row() -> None:
    it = breaker()
    for _ in range(3):
        assert not any(it.failed(1000.0) for _ in range(THRESHOLD - 1))
        assert not it.succeeded()
    assert (it.open, it.failing_since) == (False, None)


@pytest.mark.parametrize("luck", [0.0, 0.999])
def test_pauses_grow_to_five_minutes_and_begin_anew_after_a_success(luck: float) -> None:
    it, now = opened(luck), 1000.0
    for pause in (5, 10, 20, 40, 80, 160, 300, 300, 300):
        assert pause <= it.probe_at - now <= pause * 1.1
        assert not it.permits(it.probe_at - 0.001)
        now = it.probe_at
        assert it.permits(now)
        assert not it.failed(now)
    assert it.succeeded()
    for _ in range(THRESHOLD):
        it.failed(now)
    assert 5 <= it.probe_at - now <= 5.5


def test_one_probe_at_a_time_then_twice_as_many_with_each_success() -> None:
    it = opened()
    assert it.limit == 1
    limits = []
    for _ in range(5):
        it.succeeded()
        limits.append(it.limit)
    assert limits == [1, 2, 4, 8, 8]


def test_what_was_under_way_when_it_opened_says_nothing_new() -> None:
    it = opened()
    probe = it.probe_at
    assert not any(it.failed(1001.0) for _ in range(7))
    assert it.probe_at == probe


def test_who_was_failing_before_a_restart_gets_one_attempt_first() -> None:
    it = breaker(failing_since=900.0)
    assert (it.limit, it.failing_since) == (1, 900.0)
    it.failed(1000.0)
    assert it.failing_since == 900.0
    it.succeeded()
    assert (it.limit, it.failing_since) == (2, None)


def test_hopeless_after_five_days_without_success() -> None:
    it = breaker()
    assert not it.hopeless(1e12)
    it.failed(1000.0)
    it.failed(2000.0)
    assert not it.hopeless(1000.0 + DISABLE_AFTER - 1)
    assert it.hopeless(1000.0 + DISABLE_AFTER)
    it.succeeded()
    assert not it.hopeless(1e12)
    assert DISABLE_AFTER == 5 * 24 * 3600


def started(rate: Rate, begin: float, end: float, tick: float) -> list[float]:
    """When attempts start if there is always one waiting, looked at every `tick` seconds."""
    times = []
    for number in range(round((end - begin) / tick)):
        now = begin + number * tick
        while rate.permits(now):
            rate.spend(now)
            times.append(now)
    return times


@pytest.mark.parametrize("limit", [0.5, 10.0, 400.0])
def test_a_rate_is_kept_also_after_a_rest(limit: float) -> None:
    rate = Rate(limit)
    for begin in (1000.0, 5000.0):
        times = started(rate, begin, begin + 20, 0.001)
        assert limit * 20 - 2 <= len(times) <= limit * 20 + 1 + limit * 0.02
        for second in range(20):
            within = [it for it in times if begin + second <= it < begin + second + 1]
            # At most what comes at once because timers are coarse, and one that was waiting.
            assert len(within) <= limit + 1 + limit * 0.02


def test_no_limit() -> None:
    rate = Rate(None)
    for _ in range(10_000):
        assert rate.permits(1000.0)
        rate.spend(1000.0)
