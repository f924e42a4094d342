"""JSON as JavaScript would write it again: ``JSON.stringify(JSON.parse(text))`` (ECMAScript 2023, 25.5).

Receivers written from the older Telnyx document sign what they parsed and printed, not what they received.  They can
only agree with a sender whose bytes survive that round trip: ``1.0`` is ``1``, ``1e21`` is ``1e+21``, integers beyond
2^53 are rounded, keys that look like array indices come first, and escapes that are not needed are gone.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import orjson

_MAX_INDEX: Final = (1 << 32) - 2
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def canonical(text: bytes) -> bytes:
    """`text`, one JSON value, as JavaScript spells it. Raises `ValueError` when it is no JSON or nested too deep."""
    out: list[str] = []
    try:
        _write(_parse(text), out)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return "".join(out).encode()


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # 1e999 and lone surrogates are legal JSON that orjson refuses.
        return json.loads(text, parse_int=float)


def _write(root: Any, out: list[str]) -> None:
    """Depth first with a stack of our own: a payload may be nested deeper than Python may recurse."""
    stack: list[Any] = [root]
    while stack:
        item = stack.pop()
        if isinstance(item, _Literal):
            out.append(item)
        elif isinstance(item, str):
            out.append(_string(item))
        elif item is None or item is True or item is False:
            out.append("null" if item is None else "true" if item else "false")
        elif isinstance(item, (int, float)):
            out.append(_number(float(item)))
        elif isinstance(item, list):
            stack.append(_Literal("]"))
            for index in range(len(item) - 1, -1, -1):
                stack.append(item[index])
                if index:
                    stack.append(_Literal(","))
            stack.append(_Literal("["))
        else:
            stack.append(_Literal("}"))
            members = sorted(item.items(), key=_key_order)
            for index in range(len(members) - 1, -1, -1):
                key, value = members[index]
                stack.append(value)
                stack.append(_Literal(("," if index else "") + _string(key) + ":"))
            stack.append(_Literal("{"))


class _Literal(str):
    """Text that goes out as it is."""

    __slots__ = ()


def _key_order(member: tuple[str, Any]) -> tuple[int, int]:
    """Array indices ascending, then all other keys in order of insertion (sorting is stable)."""
    key = member[0]
    if key.isascii() and key.isdigit() and len(key) <= 10 and (key == "0" or key[0] != "0"):
        index = int(key)
        if index <= _MAX_INDEX:
            return 0, index
    return 1, 0


def _string(text: str) -> str:
    # orjson writes as JavaScript does, but for control characters without a short form and lone surrogates.
    try:
        quoted = orjson.dumps(text).decode()
        if "\\u" not in quoted:
            return quoted
    except TypeError:
        pass
    return '"' + "".join(_SHORT.get(c) or _character(c) for c in text) + '"'


def _character(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x20 or 0xD800 <= code < 0xE000 else character


def _number(value: float) -> str:
    """Number::toString, and null for the infinities that overlong exponents become."""
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    # value = 0.digits * 10**point
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
