"""What a consumer must see, computed from Redis alone: the filtered XRANGE, spelled as the contract spells it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

Fields = dict[bytes, bytes]


class Expected(NamedTuple):
    """One event: where it lies, and the bytes of its native envelope."""

    stream: str
    id: str
    data: str


def star_matches(pattern: str, text: str) -> bool:
    """Reference for globs: a table of (i characters of the pattern, j of the text), filled row by row."""
    row = [True] + [False] * len(text)
    for symbol in pattern:
        new = [False] * (len(text) + 1)
        for j, character in enumerate(text, start=1):
            if symbol == "*":
                new[j] = row[j - 1] or new[j - 1]
            else:
                new[j] = row[j - 1] and symbol == character
        row = new
    return row[len(text)]


def matches(globs: Iterable[str], text: str) -> bool:
    """OR over the globs; none at all let everything through."""
    globs = list(globs)
    return not globs or any(star_matches(glob, text) for glob in globs)


def iso(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, by hand (civil-from-days)."""
    days, rest = divmod(ms, 86_400_000)
    z = days + 719_468
    era, doe = divmod(z, 146_097)
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day, month = doy - (153 * mp + 2) // 5 + 1, mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400 + (month <= 2)
    hour, minute, second = rest // 3_600_000, rest // 60_000 % 60, rest // 1000 % 60
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}.{rest % 1000:03d}Z"


def envelope(stream: str, entry_id: str, fields: Fields) -> str:
    """The native envelope of a valid entry whose payload is JSON on one line."""
    text = {name.decode(): value.decode() for name, value in fields.items()}
    type_ = text["type"]
    head: dict[str, Any] = {
        "id": entry_id,
        "stream": stream,
        "channel": text.get("channel", type_.split(".")[0]),
        "type": type_,
        "time": text.get("time", iso(int(entry_id.split("-")[0]))),
    }
    if "tenant" in text:
        head["tenant"] = text["tenant"]
    return json.dumps(head, separators=(",", ":"))[:-1] + ',"data":' + text["data"] + "}"


def expected(
    stream: str, entries: Iterable[tuple[bytes, Fields]], types: Iterable[str] = (), channels: Iterable[str] = ()
) -> list[Expected]:
    """Those of `entries` (a reply of XRANGE) that a filter lets through."""
    result = []
    for raw_id, fields in entries:
        type_ = fields[b"type"].decode()
        channel = fields.get(b"channel", type_.split(".")[0].encode()).decode()
        if matches(types, type_) and matches(channels, channel):
            entry_id = raw_id.decode()
            result.append(Expected(stream, entry_id, envelope(stream, entry_id, fields)))
    return result
