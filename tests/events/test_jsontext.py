"""JSON as text: told apart from what is not JSON, cut without being re-encoded."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from gateway.events.jsontext import NotJSON, is_json, items, kind, loads, members, one_line, quote

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(leaves, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))
spelled = st.builds(
    lambda value, ascii_, indent: json.dumps(value, ensure_ascii=ascii_, indent=indent),
    values.filter(lambda v: "\\ud" not in json.dumps(v)),
    st.booleans(),
    st.sampled_from([None, 0, 2, "\t"]),
)


@settings(max_examples=40)
@given(spelled)
def test_json_is_json_on_one_line_and_means_the_same(text: str) -> None:
    raw = text.encode()
    assert is_json(raw)
    line = one_line(raw)
    assert b"\n" not in line and b"\r" not in line
    assert json.loads(line) == json.loads(raw)


@pytest.mark.parametrize(
    "text",
    ["1", "-0", "-0.0", "1.0", "1e400", "1E-400", "9007199254740993", "1" * 5000, '"\\ud800"', '"\\u0000"', '"\u2028"',
     "null", "true", "[]", "{}", ' \t\r\n{"a" : [ 1 , 2 ] }\n', '{"a":1,"a":2}', '"\x7f"', '"\U0001f600"', '""'],
)  # fmt: skip
def test_is_json(text: str) -> None:
    assert is_json(text.encode())


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"NaN", b"[NaN]",
     b"Infinity", b"-Infinity", b"'a'", b"{a:1}", b"[1,]", b'{"a":1,}', b"01", b"1.", b".5",
     b"+1", b"1 2", b"nul", b'"\n"', b'"\x00"', b'"\t"', b'"\\x"', b'"\\u12"',
     b'"\xff"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf1",
     b'{"a"}', b"[", b"]", b'"', b"\xc2\xa01", "１".encode(),
     b"/**/1", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000],
)  # fmt: skip
def test_is_not_json(text: bytes) -> None:
    assert not is_json(text)


@given(st.text())
def test_quoting(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert b"\n" not in quoted and b"\r" not in quoted and b"\0" not in quoted


@settings(max_examples=30)
@given(st.dictionaries(st.text(), spelled, max_size=5), st.sampled_from(["", " ", "\n\t"]))
def test_members_are_cut_as_they_stand(parts: dict[str, str], gap: str) -> None:
    body = f"{gap},{gap}".join(f"{json.dumps(key)}{gap}:{gap}{value.strip()}" for key, value in parts.items())
    text = f"{gap}{{{gap}{body}{gap}}}{gap}"
    assert members(text) == [(key, value.strip()) for key, value in parts.items()]


@settings(max_examples=30)
@given(st.lists(spelled, max_size=5), st.sampled_from(["", " ", "\r\n"]))
def test_items_are_cut_as_they_stand(parts: list[str], gap: str) -> None:
    text = f"{gap}[{gap}" + f"{gap},{gap}".join(part.strip() for part in parts) + f"{gap}]{gap}"
    assert items(text) == [part.strip() for part in parts]


@given(st.text('{}[]",:\\ 1ea.-\n', max_size=15))
def test_cutting_agrees_with_a_reader(text: str) -> None:
    for cut, type_ in ((members, dict), (items, list)):
        try:
            cut(text)
            could = True
        except NotJSON:
            could = False
        try:
            fits = isinstance(json.loads(text), type_)
        except ValueError:
            fits = False
        assert could == fits


def test_kind_and_loads() -> None:
    assert [kind(text) for text in (' {"a":1}', "\n[1]", '"x"', "1", "null", "")] == ["{", "[", '"', "1", "n", ""]
    assert loads(b'{"a":[1]}') == {"a": [1]}
    with pytest.raises(NotJSON):
        loads("{")
