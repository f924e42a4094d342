"""What is asked for is held against what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.principal import ANONYMOUS, SCOPES, Principal, Refused, from_grant, make_principal
from gateway.events.event import Skipped
from gateway.events.filter import Filter, GlobSet, channel_globs, type_globs
from gateway.events.position import EventId

LETTERS = "ab."
TEXTS = [a + b + c for a in ("", *LETTERS) for b in ("", *LETTERS) for c in LETTERS]
"""Every text of one to three letters: what a glob over these letters may match."""
globs = st.lists(st.text(LETTERS + "*", min_size=1, max_size=3), min_size=1, max_size=3)


def reader(**rights: Any) -> Principal:
    return make_principal("key:1", ["subscribe"], rights)


@given(asked=globs, allowed=globs)
def test_nothing_that_is_not_allowed_passes(asked: list[str], allowed: list[str]) -> None:
    may = reader(channels=allowed)
    wish = Filter(channels=channel_globs(asked))
    permitted = {text for text in TEXTS if text in GlobSet(allowed)}
    wanted = {text for text in TEXTS if text in GlobSet(asked)}
    try:
        narrowed = may.narrow(wish)
    except Refused:
        # Only for something that a longer text at least could show to be more than is allowed.
        assert any("*" in glob or glob not in permitted for glob in asked)
        return
    passed = {text for text in TEXTS if narrowed.accepts(None, text, "x")}
    assert passed == wanted & permitted
    if wish.channels is not None:
        assert passed == wanted, "half of what was asked for looks like all of it"


@given(ours=globs, wish=globs, allowed=globs, tenant=st.sampled_from([None, "t1", "t2"]))
def test_what_is_covered_may_be_seen(ours: list[str], wish: list[str], allowed: list[str], tenant: str | None) -> None:
    caller = reader(types=ours, tenant="t1")
    endpoint = Filter(types=type_globs(wish), allowed_types=type_globs(allowed), tenant=tenant)
    if caller.covers(endpoint, "events"):
        for text in TEXTS:
            for owner in (None, "t1", "t2"):
                assert not endpoint.accepts(owner, "c", text) or caller.sees("events", owner, "c", text)


@pytest.mark.parametrize(
    ("rights", "asked", "named"),
    [
        ({"channels": ["sms"]}, {"channels": ["voice"]}, "channel voice"),
        ({"channels": ["sms"]}, {"channels": ["sms", "voice"]}, "channel voice"),
        ({"channels": ["sms.*"]}, {"channels": ["s*"]}, "channel s*"),
        ({"channels": ["sms.*"]}, {"channels": ["sms"]}, "channel sms"),
        ({"types": ["a.*"]}, {"types": ["*.b"]}, "type *.b"),
    ],
)
def test_the_refusal_names_what(rights: dict[str, Any], asked: dict[str, list[str]], named: str) -> None:
    wish = Filter(channels=channel_globs(asked.get("channels", [])), types=type_globs(asked.get("types", [])))
    with pytest.raises(Refused, match=f"^{named.replace('*', '[*]')} is not allowed$"):
        reader(**rights).narrow(wish)


def test_streams_and_the_gateways_own() -> None:
    assert reader().may_read("events")
    assert not reader().may_read("gateway:ops")
    assert not reader(streams=["gateway:*"]).may_read("gateway:ops")
    assert Principal("key:1", frozenset({"admin"})).may_read("gateway:ops")
    with pytest.raises(Refused, match="stream b"):
        reader(streams=["a"]).narrow(Filter(), ["a", "b"])
    for caller in (ANONYMOUS, Principal("key:1", frozenset(SCOPES))):
        with pytest.raises(Refused, match="stream gateway:ops"):
            caller.check_publish("gateway:ops", "a", "a.b")


def test_empty_lists_allow_nothing_and_missing_ones_everything() -> None:
    assert reader(channels=[]).narrow(Filter()).accepts(None, "a", "a") is False
    assert reader(channels=None).narrow(Filter()).is_everything
    assert reader(channels=["*"]).narrow(Filter()).is_everything
    assert reader(streams=[]).may_read("events") is False
    with pytest.raises(Refused):
        reader(channels="").narrow(Filter(channels=channel_globs(["a"])))


def test_a_filter_with_a_tenant_is_never_widened() -> None:
    endpoint = Filter(tenant="t1")
    assert reader().restrict(endpoint).tenant == "t1"
    assert reader(tenant="t1").restrict(endpoint).tenant == "t1"
    foreign = reader(tenant="t2").restrict(endpoint)
    assert not any(foreign.accepts(tenant, "a", "a") for tenant in (None, "t1", "t2"))
    with pytest.raises(Refused, match="tenant t1"):
        reader(tenant="t2").narrow(endpoint)


def test_admin_includes_the_others_and_nobody_else_does() -> None:
    for scope in SCOPES:
        assert Principal("a", frozenset({"admin"})).may(scope)
        assert [Principal("a", frozenset({scope})).may(other) for other in SCOPES if other != scope] == [
            scope == "admin"
        ] * 3
    with pytest.raises(Refused, match="the scope publish"):
        reader().demand("publish")


@pytest.mark.parametrize(
    "rights",
    [
        {"tenant": ""},
        {"tenant": "a b"},
        {"tenant": 1},
        {"tenant": ["a"]},
        {"tenant": "a\n"},
        {"channels": 1},
        {"channels": [1]},
        {"channels": {"a": 1}},
        {"channels": ["a\r\nb"]},
        {"channels": ["a"] * 300 + ["b"] * 300},
        {"types": [""]},
        {"streams": ["a b\t"]},
        {"expires_at": "soon"},
        {"expires_at": True},
        {"expires_at": -1},
        {"expires_at": float("nan")},
        {"expires_at": float("inf")},
    ],
)
def test_rights_that_cannot_be_understood_are_none(rights: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        reader(**rights)


rights_strategy = st.fixed_dictionaries(
    {},
    optional={
        "tenant": st.sampled_from(["a", "b/c"]),
        "channels": globs,
        "types": globs,
        "streams": st.just(["x", "y.*"]),
        "expires_at": st.floats(0, 1e11),
    },
)


@given(rights=rights_strategy)
def test_a_grant_comes_back_as_it_was(rights: dict[str, Any]) -> None:
    principal = make_principal("jwt:x", ["subscribe", "nonsense"], rights, limits={"replays": 3})
    assert from_grant(json.loads(json.dumps(principal.grant()))) == principal


def test_nobody_learns_of_a_skipped_entry_that_is_not_surely_theirs() -> None:
    entry = Skipped(EventId(1), "events", "invalid_channel", "a.b", None, "t1")
    assert reader(tenant="t1").narrow(Filter()).could_accept(entry)
    assert not reader(tenant="t1", channels=["a"]).narrow(Filter()).could_accept(entry)
    assert not reader(tenant="t2").narrow(Filter()).could_accept(entry)


def test_callers_have_names_apart() -> None:
    one = make_principal("jwt:a", ["publish"], {"tenant": "t1"})
    two = make_principal("jwt:a", ["publish"], {"tenant": "t2"})
    assert one.namespace != two.namespace
