"""What a ``GET /api/events`` asks for, read from its query and headers (CONTRACT section 3). Pure.

Everything doubtful is a 400 that names the parameter: a mistyped filter must not subscribe to everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from gateway.errors import FieldError, Problem, bad_request
from gateway.events import rules
from gateway.events.envelope import ENCODERS
from gateway.events.filter import Filter, channel_globs, type_globs
from gateway.events.position import EventId, is_stream_key, parse_position
from gateway.sse.parameters import ALIASES, BOOLEANS, DEFAULT_PAGE, LISTS, MAX_LAST, MAX_PAGE, MAX_STREAMS, SINGLES

Accept = Literal["sse", "ndjson", "json"]

_DURATION = re.compile(r"([0-9]{1,9})([smhd])\Z")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
T = TypeVar("T")
V = TypeVar("V")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class After:
    """Resume after these ids; streams that it does not name start live."""

    position: Mapping[str, EventId]


@dataclass(frozen=True, slots=True)
class AtTime:
    """Start with the first event at or after this Unix time in ms."""

    ms: int


@dataclass(frozen=True, slots=True)
class Last:
    """Start so that the newest `n` matching events come first."""

    n: int


Start = After | AtTime | Last | Literal["earliest", "latest"]


@dataclass(frozen=True, slots=True)
class EventsRequest:
    """A valid request. `streams` are sorted and distinct."""

    accept: Accept
    streams: tuple[str, ...]
    filter: Filter
    format: str
    named: bool
    start: Start
    resumed: bool
    """Whether the start is a last event id: the client was here before."""
    control: bool
    limit: int


def negotiate(accept: str) -> Accept:
    """Choose by the ``Accept`` header (RFC 9110, section 12.5.1). Raises a 406 `Problem`."""
    offers: dict[str, Accept] = {
        "text/event-stream": "sse",
        "*/*": "sse",
        "text/*": "sse",
        "application/x-ndjson": "ndjson",
        "application/json": "json",
        "application/*": "json",
    }
    best: tuple[float, int] | None = None
    chosen: Accept | None = None
    for part in (accept or "*/*").split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media not in offers:
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        rank = (quality, -media.count("*"))
        if quality > 0 and (best is None or rank > best):
            best, chosen = rank, offers[media]
    if chosen is None:
        raise Problem(406, "this resource can be had as text/event-stream, application/x-ndjson or application/json")
    return chosen


def parse_request(
    query: Iterable[tuple[str, str]],
    *,
    accept: str,
    last_event_id: str,
    default_stream: str,
    now: Callable[[], float],
) -> EventsRequest:
    """Read the parameters. `last_event_id` is the header's value, "" for none; `now` is Unix time in seconds."""
    chosen = negotiate(accept)
    lists, singles = _collect(query)
    streams = _streams(lists["stream"], default_stream)
    # The HTTP parser leaves blanks after a value, which are no part of it (RFC 9110, section 5.5).
    resume = _resume(last_event_id.strip(" \t"), singles, streams)
    start = _start(singles, streams, chosen, now)
    if "limit" in singles and chosen != "json":
        raise bad_request("limit", "is for pages only: send Accept: application/json")
    format_ = singles.get("format", "native")
    if format_ not in ENCODERS:
        raise bad_request("format", f"must be one of {', '.join(ENCODERS)}")
    return EventsRequest(
        accept=chosen,
        streams=streams,
        filter=Filter(
            channels=_checked("channel", channel_globs, lists["channel"]),
            types=_checked("type", type_globs, lists["type"]),
        ),
        format=format_,
        named=_boolean("named", singles),
        start=resume or start,
        resumed=resume is not None,
        control=_boolean("control", singles),
        limit=_number("limit", singles, 1, MAX_PAGE, DEFAULT_PAGE),
    )


def _collect(query: Iterable[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, str]]:
    lists: dict[str, list[str]] = {name: [] for name in LISTS}
    singles: dict[str, str] = {}
    unknown: list[str] = []
    for given, value in query:
        name = ALIASES.get(given, given)
        if name in LISTS:
            parts = value.split(",")
            if "" in parts:
                raise bad_request(given, "has an empty value; leave the parameter out to get everything")
            lists[name] += parts
        elif name in SINGLES:
            if given in singles:
                raise bad_request(given, "is given twice")
            singles[given] = value
        elif not given.startswith("_") and given != "padding":
            unknown.append(given)
    if unknown:
        names = ", ".join(name[:64] for name in unknown[:10])
        known = ", ".join(sorted(LISTS | SINGLES))
        raise Problem(
            400,
            f"unknown query parameter: {names} (known: {known})",
            errors=[FieldError(name[:64], "unknown query parameter") for name in unknown[:10]],
        )
    return lists, singles


def _streams(values: list[str], default_stream: str) -> tuple[str, ...]:
    if not values:
        return (default_stream,)
    for value in values:
        if not is_stream_key(value):
            raise bad_request("stream", f"{value[:64]!r} is not a stream key: 1 to 128 of A-Z a-z 0-9 _ . : {{ }} -")
    streams = tuple(sorted(set(values)))
    if len(streams) > MAX_STREAMS:
        raise bad_request("stream", f"at most {MAX_STREAMS} streams in one subscription, got {len(streams)}")
    return streams


def _resume(header: str, singles: Mapping[str, str], streams: tuple[str, ...]) -> After | None:
    # Polyfills append lastEventId when they reconnect, to a URL that may hold the last_event_id of the first start.
    spellings = ("lastEventId", "lastEventID", "last_event_id")
    texts = [header, *(singles.get(spelling, "") for spelling in spellings)]
    # Each is checked, also those that do not count: a mistyped one must not wait for the day when it does.
    found = [
        After(_checked("last_event_id", lambda t: parse_position(t, streams), text)) for text in filter(None, texts)
    ]
    return found[0] if found else None


def _start(singles: Mapping[str, str], streams: tuple[str, ...], accept: Accept, now: Callable[[], float]) -> Start:
    if "since" in singles and "last" in singles:
        raise bad_request("last", "cannot be combined with since: each says where to start")
    if "since" in singles:
        return _since(singles["since"], streams, now)
    if "last" in singles:
        return Last(_number("last", singles, 1, MAX_LAST, 1))
    return "earliest" if accept == "json" else "latest"


def _since(text: str, streams: tuple[str, ...], now: Callable[[], float]) -> Start:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    duration = _DURATION.match(text)
    if duration is not None:
        return AtTime(max(0, int(now() * 1000) - int(duration[1]) * _UNIT_MS[duration[2]]))
    if "@" not in text and ("T" in text or "t" in text or " " in text):
        # In a query a plus sign means a blank: +01:00 arrives as " 01:00" from clients that do not encode it.
        text = text.replace(" ", "+")
        _checked("since", rules.check_time, text)
        fraction = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text.upper().replace("Z", "+00:00").replace(":60", ":59"))
        return AtTime(max(0, int(datetime.fromisoformat(fraction).timestamp() * 1000)))
    if "-" in text:
        return After(_checked("since", lambda value: parse_position(value, streams), text))
    raise bad_request("since", "must be an event id, an RFC 3339 time, a duration such as 10m, earliest or latest")


def _checked(field: str, check: Callable[[V], T], value: V) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise bad_request(field, str(error)) from None


def _boolean(name: str, singles: Mapping[str, str]) -> bool:
    value = singles.get(name, "true")
    if value not in BOOLEANS:
        raise bad_request(name, "must be true or false")
    return BOOLEANS[value]


def _number(name: str, singles: Mapping[str, str], low: int, high: int, default: int) -> int:
    if name not in singles:
        return default
    text = singles[name]
    if _NUMBER.match(text) is None or not low <= int(text) <= high:
        raise bad_request(name, f"must be a number from {low} to {high}")
    return int(text)
