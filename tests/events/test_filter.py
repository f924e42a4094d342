"""Globs against a reference matcher, filters as values."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from gateway.events.event import Event, Skipped
from gateway.events.filter import (
    EVERYTHING,
    Filter,
    GlobSet,
    channel_globs,
    glob_matches,
    predicate,
    stream_globs,
    type_globs,
)
from gateway.events.position import make_id
from tests.support.oracle import star_matches

small = st.text("ab.", max_size=9)
patterns = st.text("ab.*", max_size=7)


@given(patterns, small)
@example("a*a", "a")
@example("a*a", "aa")
@example("a*a", "aba")
@example("**", "a")
@example("**", "aa")
@example("*", "")
@example("", "")
@example("a*b*b", "abb")
@example("*a*", "a")
def test_globs_agree_with_the_reference(pattern: str, text: str) -> None:
    assert glob_matches(pattern, text) == star_matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("voice.*", ["voice.ai.initiated", "voice.x"], ["voice", "voice.", "voicex", "xvoice.a"]),
        ("*", ["a", "a.b"], []),
        ("*.sent", ["sms.sent", "a.b.sent"], [".sent", "sent"]),
        ("a+b", ["a+b"], ["aab", "ab"]),
        ("[ab]", ["[ab]"], ["a"]),
        ("a?", ["a?"], ["ab"]),
    ],
)
def test_stars_are_one_or_more_and_all_else_is_literal(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in [*yes, *no] if glob_matches(pattern, text)] == yes


@pytest.mark.parametrize("pattern", ["*a" * 60 + "b", "a*" * 60 + "b", "*" * 128, "*aaaa" * 20 + "*b"])
def test_hostile_patterns_take_linear_time(pattern: str) -> None:
    """A matcher that backtracks would not come back in the life of the universe; this one compares with itself."""

    def cost(length: int) -> float:
        text = "a" * length
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            glob_matches(pattern, text)
            best = min(best, time.perf_counter() - began)
        return best

    # 64 times the text: linear is 64 times the time, quadratic 4,096 times.
    assert cost(64_000) < 1000 * max(cost(1_000), 1e-6)


def test_equal_filters_are_equal_keys() -> None:
    left = Filter(channels=channel_globs(["b", "a", "b"]), types=type_globs(["x.*"]))
    right = Filter(channels=channel_globs(["a", "b"]), types=type_globs(["x.*"]))
    assert left == right and hash(left) == hash(right) and len({left, right}) == 1
    assert Filter(channels=channel_globs(["*", "a"])) == EVERYTHING
    assert GlobSet(["a"]) != GlobSet(["b"]) and GlobSet(["a"]) != ["a"]


@pytest.mark.parametrize("bad", ["", " ", "a b", "a,b", "ä", "a\n", "x" * 129, "a{", "\0"])
def test_globs_that_can_match_nothing_are_refused(bad: str) -> None:
    for make in (channel_globs, type_globs):
        with pytest.raises(ValueError):
            make([bad])


def test_too_many_globs_are_refused() -> None:
    assert channel_globs([f"c{n}" for n in range(256)]) is not None
    with pytest.raises(ValueError, match="256"):
        channel_globs([f"c{n}" for n in range(257)])
    with pytest.raises(ValueError):
        type_globs(["a/b"])
    assert stream_globs(["{a}:b*"]) is not None
    assert channel_globs([]) is None


def event(tenant: str | None = None, channel: str = "c", type_: str = "t") -> Event:
    return Event(make_id(1), "events", type_, channel, tenant, "2025-01-01T00:00:00Z", b"1")


names = st.sampled_from(["a", "a.b", "b", "c"])
globs = st.none() | st.lists(st.sampled_from(["a", "a*", "*b", "b", "*"]), min_size=1).map(GlobSet)


@given(globs, globs, st.none() | names, globs, globs, st.none() | names, names, names)
def test_all_parts_must_pass(
    channels: GlobSet | None,
    types: GlobSet | None,
    tenant: str | None,
    allowed_channels: GlobSet | None,
    allowed_types: GlobSet | None,
    event_tenant: str | None,
    channel: str,
    type_: str,
) -> None:
    filter_ = Filter(channels, types, tenant, allowed_channels, allowed_types)

    def passes(globs: GlobSet | None, text: str) -> bool:
        return globs is None or any(star_matches(glob, text) for glob in globs.globs)

    wanted = (
        (tenant is None or tenant == event_tenant)
        and all(passes(part, channel) for part in (channels, allowed_channels))
        and all(passes(part, type_) for part in (types, allowed_types))
    )
    assert filter_.accepts(event_tenant, channel, type_) == wanted
    accepts = predicate(filter_)
    one = event(event_tenant, channel, type_)
    assert (wanted if accepts is None else accepts(one) and accepts(one)) == wanted
    whole = Skipped(make_id(1), "events", "missing_data", type_, channel, event_tenant)
    assert filter_.could_accept(whole) == wanted


def test_a_skipped_entry_that_is_not_surely_the_tenants_is_not_told() -> None:
    mine = Filter(tenant="me")
    assert not mine.could_accept(Skipped(make_id(1), "events", "invalid_tenant"))
    assert mine.could_accept(Skipped(make_id(1), "events", "missing_type", tenant="me"))
    assert Filter(types=GlobSet(["a"])).could_accept(Skipped(make_id(1), "events", "missing_type"))


def test_the_memo_of_a_predicate_does_not_grow_for_ever() -> None:
    accepts = predicate(Filter(types=GlobSet(["t7*"])))
    assert accepts is not None
    found = [n for n in range(10_000) if accepts(event(type_=f"t{n}"))]
    assert found == [n for n in range(10_000) if str(n).startswith("7") and n > 7]
