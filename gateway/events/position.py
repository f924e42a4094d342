"""Where a reader stands in the log: an event id for one stream, one id per stream for several.

An event id is a Redis entry id, ``ms-seq``: two unsigned 64-bit integers, compared as two integers (Redis Streams
documentation, "Entry IDs").  In memory it is one ``int``, ``ms << 64 | seq``, because comparing, bisecting and
taking the successor of plain integers is what the hot path does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NewType

EventId = NewType("EventId", int)
"""``ms << 64 | seq``."""

ZERO: Final = EventId(0)
"""The position before every possible entry, ``0-0``."""

MAX: Final = EventId((1 << 128) - 1)

_U64: Final = (1 << 64) - 1
_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})\Z")
STREAM_KEY = re.compile(r"[A-Za-z0-9_.:{}-]{1,128}\Z")


def make_id(ms: int, seq: int = 0) -> EventId:
    """The id of entry `seq` of millisecond `ms`. Both must fit 64 bits."""
    return EventId(ms << 64 | seq)


def parse_id(text: str) -> EventId:
    """Read ``ms-seq``. Only ASCII digits count. Raises `ValueError` on anything else, or past 64 bits."""
    match = _ID.match(text)
    if match is None:
        raise ValueError(f"not an event id: {text[:64]!r} (expected <milliseconds>-<sequence>)")
    ms, seq = int(match[1]), int(match[2])
    if ms > _U64 or seq > _U64:
        raise ValueError(f"event id out of range: {text[:64]!r}")
    return EventId(ms << 64 | seq)


def read_id(raw: bytes) -> EventId:
    """The id in a Redis reply. Trusts its form: Redis made it."""
    ms, seq = raw.split(b"-")
    return int(ms) << 64 | int(seq)  # type: ignore[return-value]


def format_id(event_id: int) -> str:
    """``ms-seq``, the spelling of Redis."""
    return f"{event_id >> 64}-{event_id & _U64}"


def milliseconds(event_id: int) -> int:
    """The millisecond part: Unix time in ms for ids that Redis chose."""
    return event_id >> 64


def before(event_id: int) -> EventId:
    """The last position at which the event `event_id` is still to come (the id just below it; `ZERO` stays)."""
    return EventId(max(0, event_id - 1))


def is_stream_key(text: str) -> bool:
    """Whether `text` may name a stream: ``[A-Za-z0-9_.:{}-]{1,128}``."""
    return STREAM_KEY.match(text) is not None


def format_position(position: Mapping[str, int]) -> str:
    """One stream: the bare id. Several: ``orders@1-0,payments@2-3``, names sorted."""
    if len(position) == 1:
        return format_id(next(iter(position.values())))
    return ",".join(f"{name}@{format_id(position[name])}" for name in sorted(position))


def speller(stream: str, positions: Mapping[str, int]) -> Callable[[int], str]:
    """From the id of an event of `stream` to the position after it, while the other streams stand still."""
    if len(positions) == 1:
        return format_id
    marks = {name: f"{name}@{format_id(positions[name])}" for name in sorted(positions)}
    head = "".join(f"{mark}," for name, mark in marks.items() if name < stream) + f"{stream}@"
    tail = "".join(f",{mark}" for name, mark in marks.items() if name > stream)
    return lambda event_id: f"{head}{format_id(event_id)}{tail}"


def parse_position(text: str, streams: Iterable[str]) -> dict[str, EventId]:
    """Read a position back for a subscription to `streams`; streams that it does not name are left out.

    A bare id is accepted for one stream only, the composite form for any number.  Names that are not in `streams`
    are ignored, so that a consumer may narrow its subscription and resume.  Raises `ValueError`.
    """
    wanted = list(streams)
    if "@" not in text:
        event_id = parse_id(text)
        if len(wanted) != 1:
            raise ValueError(
                "a bare event id does not say where to resume in several streams; "
                "send the composite form stream@id,stream@id"
            )
        return {wanted[0]: event_id}
    position: dict[str, EventId] = {}
    for part in text.split(","):
        name, at, id_text = part.partition("@")
        if not at or not is_stream_key(name):
            raise ValueError(f"not a position: {part[:160]!r} (expected stream@milliseconds-sequence)")
        if name in position:
            raise ValueError(f"position names stream {name!r} twice")
        position[name] = parse_id(id_text)
    position = {name: position[name] for name in wanted if name in position}
    if not position:
        raise ValueError("the position names none of the streams asked for: " + ", ".join(sorted(wanted)))
    return position
