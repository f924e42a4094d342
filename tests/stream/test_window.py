"""The window against a plain list."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from gateway.events.event import read_entry
from gateway.events.position import EventId, make_id
from gateway.stream.window import Window


def item(ms: int, size: int = 1) -> object:
    return read_entry("s", f"{ms}-0".encode(), [b"type", b"a", b"data", b'"' + b"x" * size + b'"'])


@given(
    st.lists(st.lists(st.integers(1, 9), max_size=12), max_size=12),
    st.integers(1, 20),
    st.integers(0, 400),
    st.integers(1, 9),
)
def test_what_is_kept_is_a_whole_suffix(steps: list[list[int]], most: int, at: int, limit: int) -> None:
    window = Window(most, 1 << 30)
    log: list[EventId] = []
    ms = 0
    for step in steps:
        batch = []
        for distance in step:
            ms += distance
            batch.append(item(ms))
            log.append(make_id(ms))
        ms += 1
        window.extend(batch, make_id(ms))  # type: ignore[arg-type]
        assert window.tail == make_id(ms)
        kept = [event_id for event_id in log if event_id > window.floor]
        assert len(window) == len(kept) == min(len(log), most)
        position = make_id(at)
        if window.covers(position):
            wanted = [event_id for event_id in log if event_id > position]
            assert [one.id for one in window.after(position, limit)] == wanted[:limit]
            assert window.holds(position) == (position in kept)
        assert window.covers(window.floor) and window.covers(window.tail)


def test_bytes_are_bounded_too() -> None:
    window = Window(1000, 10_000)
    for n in range(1, 100):
        window.extend([item(n, 1000)], make_id(n))  # type: ignore[list-item]
        assert len(window) <= 10
    assert window.tail == make_id(99) and window.floor == make_id(99 - len(window))
    window.extend([item(100, 50_000)], make_id(100))  # type: ignore[list-item]
    assert len(window) == 0 and window.floor == window.tail == make_id(100)


def test_reset() -> None:
    window = Window(10, 1 << 20)
    window.extend([item(1), item(2)], make_id(2))  # type: ignore[list-item]
    window.reset(make_id(5), make_id(7))
    assert len(window) == 0 and window.after(make_id(5), 9) == []
    assert not window.covers(make_id(4)) and window.covers(make_id(6)) and not window.covers(make_id(8))
