"""A page is what its entries are, one by one, whatever way it was decoded."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.events import alike
from gateway.events.alike import decode_page
from gateway.events.event import Event, Skipped, read_entries

SHAPES = (("type", "data"), ("type", "data", "channel"), ("type", "data", "channel", "tenant"))
PLAIN = {"type": b"sms.sent", "data": b'{"n":1}', "channel": b"shop", "tenant": b"acme"}
ODD: dict[str, list[bytes]] = {
    "type": [b"sms.failed", b"call", b"gateway.gap", b"", b"a..b", b"\xff"],
    "data": [b"1", b"not JSON", b'{"a":\n1}', b"[1,\r\n2]", b"\xff", b"1e999", b'"\\ud800"', b"", b"NaN"],
    "channel": [b"other", b"", b"a b", b"\xff"],
    "tenant": [b"other", b"", b"\r", b"\xc3\xa4"],
}
Row = tuple[bytes, list[bytes] | None]


def row(number: int, shape: tuple[str, ...], **other: bytes) -> Row:
    fields = [part for name in shape for part in (name.encode(), other.get(name, PLAIN[name]))]
    return f"{1735732800000 + number // 3}-{number % 3}".encode(), fields


@st.composite
def pages(draw: Any) -> list[Row]:
    """Entries that are alike but for a few."""
    shape = draw(st.sampled_from(SHAPES))
    page = [row(number, shape) for number in range(draw(st.integers(0, 40)))]
    for at in draw(st.lists(st.integers(0, 39), max_size=3, unique=True)):
        if at >= len(page):
            continue
        id_, fields = page[at]
        kind = draw(st.sampled_from(["value", "nil", "other shape", "more", "name", "one too many", "twice"]))
        assert fields is not None
        if kind == "value":
            name = draw(st.sampled_from(shape))
            page[at] = row(at, shape, **{name: draw(st.sampled_from(ODD[name]))})
        elif kind == "nil":
            page[at] = id_, None
        elif kind == "other shape":
            page[at] = row(at, draw(st.sampled_from(SHAPES)))
        elif kind == "more":
            page[at] = id_, [*fields, b"time", b"2025-01-01T12:00:00Z"]
        elif kind == "name":
            page[at] = id_, [b"note", *fields[1:]]
        elif kind == "one too many":
            page[at] = id_, [*fields, b"note"]
        else:
            page[at] = id_, [*fields[:2], *fields[:2], *fields[4:]]
    return page


@given(pages())
def test_a_page_is_what_its_entries_are(page: list[Row]) -> None:
    assert decode_page("events", page) == read_entries("events", page)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_publishers_write_goes_by_columns(shape: tuple[str, ...]) -> None:
    page = [row(n, shape, data=b'{"n":%d}' % n, type=(b"a.b", b"c.d")[n % 2]) for n in range(100)]
    expected = read_entries("events", page)
    with patch.object(alike, "read_entries", side_effect=AssertionError("row by row")):
        found = decode_page("events", page)
    assert found == expected
    assert all(type(event) is Event for event in found)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ODD.items() for value in values])
def test_one_odd_value_among_many(name: str, value: bytes) -> None:
    page = [row(number, SHAPES[-1]) for number in range(30)]
    page[17] = row(17, SHAPES[-1], **{name: value})
    found = decode_page("events", page)
    assert found == read_entries("events", page)
    assert list(map(type, found)) == list(map(type, read_entries("events", page)))


def test_a_page_whose_entries_all_break_a_rule() -> None:
    page = [row(number, SHAPES[0], type=b"gateway.gap") for number in range(30)]
    assert {entry.reason for entry in decode_page("events", page) if isinstance(entry, Skipped)} == {"reserved"}
