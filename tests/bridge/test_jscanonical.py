"""The spelling of JavaScript, judged by JavaScript."""

from __future__ import annotations

import json
import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from gateway.bridge.jscanonical import canonical
from tests.bridge import nodejs

TRICKY = [
    "1.0", "-0.0", "0", "1e16", "1e21", "1e20", "123456789012345678901234567890", "9007199254740993", "1e999", "-1e999",
    "5e-324", "1e-6", "1e-7", "0.000001234", "0.1", "100", "123.456e5", "1E400", "0.1e1", "1.7976931348623157e308",
    '{"b":1,"1":2,"0":3,"01":4,"4294967294":5,"4294967295":6,"-1":7}', '{"a":1,"b":2,"a":3}', '{"__proto__":1,"a":2}',
    '"\\/"', '"\\u00e9"', '"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00\\ud800x"',
    '"\\u0000\\u001f\\u007f\\b\\f\\n\\r\\t"',
    '"\\u2028"', ' [ 1 , { "a" : [ ] , "b" : { } } , null, true, false ] ', '""', "[]", "{}", '{"":{"":""}}',
    "[" * 900 + "]" * 900,
]  # fmt: skip


def random_number(source: random.Random) -> str:
    value = struct.unpack("<d", source.randbytes(8))[0]
    if value != value or value in (float("inf"), float("-inf")):
        value = source.uniform(-1e9, 1e9)
    return source.choice(
        [repr(value), f"{value:.6e}", str(source.getrandbits(source.randrange(1, 200))), repr(source.random())]
    )


def random_text(source: random.Random) -> str:
    points = (
        source.choice(
            [source.randrange(0x20), source.randrange(0x80), source.randrange(0x3000), 0x1F600, 0xD800, 0xDC00]
        )
        for _ in range(source.randrange(9))
    )
    return json.dumps("".join(map(chr, points)), ensure_ascii=True)


def random_value(source: random.Random, depth: int = 0) -> str:
    kind = source.randrange(6 if depth < 4 else 3)
    if kind == 0:
        return random_number(source)
    if kind == 1:
        return random_text(source)
    if kind == 2:
        return source.choice(["true", "false", "null", "-0.0", "1.0"])
    count = source.randrange(5)
    if kind == 3:
        return "[" + ", ".join(random_value(source, depth + 1) for _ in range(count)) + "]"
    keys = (source.choice([str(source.randrange(20)), random_text(source)[1:-1], "k"]) for _ in range(count))
    return "{" + " ,".join(f'"{key}" : {random_value(source, depth + 1)}' for key in keys) + "}"


def test_spelled_as_node_spells_it() -> None:
    source = random.Random(20260101)
    texts = TRICKY + [random_value(source) for _ in range(3000)] + [random_number(source) for _ in range(3000)]
    expected = nodejs.run("stringify.mjs", texts)
    for text, right in zip(texts, expected, strict=True):
        assert canonical(text.encode()).decode() == right, text


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
        lambda it: st.lists(it) | st.dictionaries(st.text(), it),
    )
)
def test_spelling_again_changes_nothing(value: object) -> None:
    once = canonical(json.dumps(value).encode())
    assert canonical(once) == once
