"""JSON as text: checked and cut, never re-encoded.

A payload must reach the consumer as it was written: 2^53+1, ``1.0``, key order and ``\\u00e9`` unchanged.  So nothing
here parses to Python values in order to print them again; parsers are used only to learn whether a text is JSON
(RFC 8259) and where its parts begin and end.
"""

from __future__ import annotations

import json
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

import orjson


class NotJSON(ValueError):
    """The text is not JSON (RFC 8259)."""


def _refuse(constant: str) -> NoReturn:
    raise NotJSON(f"{constant} is not JSON")


def _number(text: str) -> str:
    return text


# Numbers stay text: no digit limit, no infinity.  NaN and Infinity, which Python reads, are refused.
_decoder = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_refuse)
_WHITESPACE = " \t\n\r"


def is_json(text: bytes) -> bool:
    """Whether `text` is one JSON value in UTF-8, nested at most about 1,000 deep."""
    try:
        orjson.loads(text)
        return True
    except orjson.JSONDecodeError:
        pass
    # orjson refuses valid texts that have no exact Python or Unicode value: 1e999, "\ud800".  Ask a second reader.
    try:
        _decoder.decode(text.decode())
        return not text.startswith(b"\xef\xbb\xbf")
    except (ValueError, RecursionError):
        return False


def one_line(text: bytes) -> bytes:
    """A JSON text without line breaks. JSON allows them between tokens only, where they mean nothing."""
    if 10 in text or 13 in text:  # looking for an int takes a tenth of the time of looking for bytes of length one
        return text.translate(None, b"\r\n")
    return text


def quote(text: str) -> bytes:
    """`text` as a JSON string on one line."""
    return orjson.dumps(text)


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] in _WHITESPACE and at < len(text):
        at += 1
    return at


def _value_end(text: str, at: int) -> int:
    try:
        _, end = _decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from None
    return int(end)


def _scan_key(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise NotJSON(f"expected a string at character {at}")
    try:
        key, at = scanstring(text, at + 1, True)
    except ValueError as error:
        raise NotJSON(str(error)) from None
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise NotJSON(f"expected ':' at character {at}")
    return key, _skip(text, at + 1)


def _parts(text: str, opening: str, closing: str, keyed: bool) -> list[tuple[str, str]]:
    at = _skip(text, 0)
    if text[at : at + 1] != opening:
        raise NotJSON(f"expected {opening!r}")
    at = _skip(text, at + 1)
    parts: list[tuple[str, str]] = []
    if text[at : at + 1] == closing:
        at += 1
    else:
        while True:
            key = ""
            if keyed:
                key, at = _scan_key(text, at)
            end = _value_end(text, at)
            parts.append((key, text[at:end]))
            at = _skip(text, end)
            separator = text[at : at + 1]
            at += 1
            if separator == closing:
                break
            if separator != ",":
                raise NotJSON(f"expected ',' or {closing!r} at character {at - 1}")
            at = _skip(text, at)
    if _skip(text, at) != len(text):
        raise NotJSON(f"more text after the end of the value at character {at}")
    return parts


def members(text: str) -> list[tuple[str, str]]:
    """The members of a JSON object as (key, text of the value), in order. Raises `NotJSON`, also for a non-object."""
    return _parts(text, "{", "}", keyed=True)


def items(text: str) -> list[str]:
    """The elements of a JSON array as texts, in order. Raises `NotJSON`, also for a non-array."""
    return [value for _, value in _parts(text, "[", "]", keyed=False)]


def kind(text: str) -> str:
    """The first character of the value: ``{`` object, ``[`` array, ``"`` string, else a number or a literal."""
    return text.lstrip(_WHITESPACE)[:1]


def loads(text: str | bytes) -> Any:
    """Parse a JSON text whose numbers need not survive: our own configuration and answers. Raises `NotJSON`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJSON(str(error)) from None
