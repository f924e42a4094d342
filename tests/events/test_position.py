"""Ids and positions: what is written is read back, and nothing else is."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.events.position import (
    MAX,
    ZERO,
    before,
    format_id,
    format_position,
    is_stream_key,
    make_id,
    milliseconds,
    parse_id,
    parse_position,
    read_id,
)

u64 = st.integers(0, 2**64 - 1)
keys = st.text("ab{}:._-9", min_size=1, max_size=8)


@given(u64, u64, u64, u64)
def test_ids_are_two_integers(ms: int, seq: int, other_ms: int, other_seq: int) -> None:
    one, other = make_id(ms, seq), make_id(other_ms, other_seq)
    assert (one < other) == ((ms, seq) < (other_ms, other_seq))
    assert format_id(one) == f"{ms}-{seq}"
    assert parse_id(f"{ms}-{seq}") == read_id(f"{ms}-{seq}".encode()) == one
    assert milliseconds(one) == ms
    assert before(one) + 1 == one or one == before(one) == ZERO


def test_bounds() -> None:
    assert format_id(MAX) == "18446744073709551615-18446744073709551615"
    assert format_id(before(make_id(5))) == "4-18446744073709551615"


@pytest.mark.parametrize(
    "bad",
    ["", "1", "1-", "-1", "1-1-1", "1-x", " 1-1", "1-1 ", "1-1\n", "+1-1", "-1-1", "1--1", "0x1-1", "1_0-1", "1.0-1",
     "١-1", "1-²", "18446744073709551616-0", "0-18446744073709551616", "1" * 21 + "-0", "1\x00-1"],
)  # fmt: skip
def test_what_is_no_id(bad: str) -> None:
    with pytest.raises(ValueError):
        parse_id(bad)


@given(st.dictionaries(keys, st.builds(make_id, u64, u64), min_size=1, max_size=5))
def test_positions_are_read_back(position: dict[str, int]) -> None:
    text = format_position(position)
    assert parse_position(text, position) == position
    assert not set(text) & set("\r\n\0 ")
    if len(position) > 1:
        assert [part.split("@")[0] for part in text.split(",")] == sorted(position)


def test_a_position_of_more_or_fewer_streams() -> None:
    assert parse_position("a@1-0,b@2-0", ["b", "c"]) == {"b": make_id(2)}
    assert parse_position("a@1-0", ["a"]) == {"a": make_id(1)}
    assert parse_position("1-0", ["a"]) == {"a": make_id(1)}
    for text in ("1-0", "c@1-0", "a@1-0,a@2-0", "a@1-0,", "a@,b@1-0", "@1-0", "a b@1-0", "a@1-0,2-0", "a@1-0;b@1-0"):
        with pytest.raises(ValueError):
            parse_position(text, ["a", "b"])


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        position = parse_position(text, ["a"])
    except ValueError:
        return
    assert parse_position(format_position(position), ["a"]) == position


def test_stream_keys() -> None:
    assert is_stream_key("a") and is_stream_key("{x}:y.z-_9") and is_stream_key("k" * 128)
    assert not any(map(is_stream_key, ["", "a b", "a@b", "a,b", "k" * 129, "ä", "a\n", "a*"]))
