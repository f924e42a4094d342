"""How often one may try."""

from __future__ import annotations

from gateway.access.attempts import Attempts


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_so_many_others_in_a_second() -> None:
    clock = Clock()
    attempts = Attempts(3, clock)
    for text in "abc":
        assert not attempts.over("1.2.3.4", text)
        attempts.begin("1.2.3.4", text)
    assert attempts.over("1.2.3.4", "d")
    assert not attempts.over("1.2.3.4", "a"), "one that is looked at already costs nothing more"
    assert not attempts.over("1.2.3.5", "d") and not attempts.over(None, "d")
    clock.time += 0.999
    assert attempts.over("1.2.3.4", "d")
    clock.time += 0.001
    assert not attempts.over("1.2.3.4", "d")


def test_a_good_one_is_forgiven() -> None:
    attempts = Attempts(1, Clock())
    for n in range(100):
        assert not attempts.over(None, str(n))
        attempts.begin(None, str(n))
        attempts.forgive(None, str(n))
    attempts.forgive("elsewhere", "x")


def test_no_limit() -> None:
    attempts = Attempts(0, Clock())
    for n in range(100):
        attempts.begin(None, str(n))
    assert not attempts.over(None, "x")


def test_many_refusals_are_remembered_for_the_next_second() -> None:
    clock = Clock()
    attempts = Attempts(1, clock)
    for _ in range(19):
        attempts.refused()
    assert not attempts.many
    attempts.refused()
    assert attempts.many
    clock.time += 1
    assert attempts.many
    clock.time += 1
    assert not attempts.many
    for _ in range(20):
        attempts.refused()
    clock.time += 2
    assert not attempts.many
