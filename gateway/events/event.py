"""An event: one entry of a Redis Stream that keeps the rules of CONTRACT section 1.

`read_entry` turns an entry into an `Event`, or into a `Skipped` that says which rule it broke; it never raises.
Both are tuples: made in one C call, immutable, valid from birth.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from gateway.events import rules
from gateway.events.jsontext import is_json, one_line, quote
from gateway.events.position import EventId, read_id

_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can name


class Event(NamedTuple):
    """A published event."""

    id: EventId
    stream: str
    type: str
    channel: str
    tenant: str | None
    time: str
    """RFC 3339, as the publisher spelled it; else the millisecond part of the id."""
    data: bytes
    """One line of JSON text, as the publisher spelled it."""
    webhook_url: str | None = None
    webhook_failover_url: str | None = None


class Skipped(NamedTuple):
    """An entry that broke a rule. `type`, `channel` and `tenant` are what could be read of it, else None."""

    id: EventId
    stream: str
    reason: str
    """One of `SKIP_REASONS`."""
    type: str | None = None
    channel: str | None = None
    tenant: str | None = None


Entry = Event | Skipped

SKIP_REASONS = (
    "missing_type",
    "invalid_type",
    "reserved",
    "missing_data",
    "invalid_data",
    "invalid_channel",
    "invalid_tenant",
    "invalid_time",
    "invalid_webhook_url",
)


@lru_cache(maxsize=8192)
def _type(raw: bytes) -> tuple[str, str] | None:
    """(type, default channel), or None when it breaks the rule."""
    try:
        text = raw.decode("ascii")
        rules.check_type(text)
    except ValueError:
        return None
    return text, text.partition(".")[0]


@lru_cache(maxsize=8192)
def _name(raw: bytes) -> str | None:
    try:
        text = raw.decode("ascii")
        rules.check_name(text)
    except ValueError:
        return None
    return text


@lru_cache(maxsize=1024)
def _url(raw: bytes) -> str | None:
    try:
        text = raw.decode("ascii")
        rules.check_url(text)
    except ValueError:
        return None
    return text


def _time(raw: bytes) -> str | None:
    try:
        text = raw.decode("ascii")
        rules.check_time(text)
    except ValueError:
        return None
    return text


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds. Times past the year 9999, which RFC 3339 cannot say, become its last ms."""
    seconds, rest = divmod(ms, 1000)
    if seconds > _LAST_SECOND:
        rest = 999
    # strftime leaves years below 1000 unpadded on some C libraries; ids cannot lie before 1970.
    return f"{_second(seconds)}.{rest:03d}Z"


def read_data(raw: bytes) -> bytes | None:
    """The payload as one line of JSON text; text that is not JSON becomes a JSON string; None if not UTF-8."""
    if is_json(raw):
        return one_line(raw)
    try:
        return quote(raw.decode())
    except UnicodeDecodeError:
        return None


def read_entry(stream: str, raw_id: bytes, fields: Sequence[bytes]) -> Entry:
    """Decode one entry. `fields` is name, value, name, value, as Redis sends it; of a repeated name the last counts."""
    event_id = read_id(raw_id)
    it = iter(fields)
    get = dict(zip(it, it, strict=False)).get
    raw_type = get(b"type")
    raw_channel = get(b"channel")
    raw_tenant = get(b"tenant")
    raw_data = get(b"data")
    raw_time = get(b"time")
    typed = None if raw_type is None else _type(raw_type)
    tenant = None if raw_tenant is None else _name(raw_tenant)
    if typed is None:
        channel = None if raw_channel is None else _name(raw_channel)
        return Skipped(event_id, stream, "missing_type" if raw_type is None else "invalid_type", None, channel, tenant)
    type_, channel = typed
    reason: str | None = None
    if raw_channel is not None:
        channel = _name(raw_channel)
        if channel is None:
            reason = "invalid_channel"
    if raw_tenant is not None and tenant is None:
        reason = "invalid_tenant"
    if raw_time is None:
        time: str | None = format_time(event_id >> 64)
    else:
        time = _time(raw_time)
        if time is None:
            reason = "invalid_time"
    data = None if raw_data is None else read_data(raw_data)
    if data is None:
        reason = "missing_data" if raw_data is None else "invalid_data"
    if type_.startswith("gateway."):
        reason = "reserved"
    webhook_url = webhook_failover_url = None
    if b"webhook_url" in fields or b"webhook_failover_url" in fields:
        raw_url, raw_failover = get(b"webhook_url"), get(b"webhook_failover_url")
        webhook_url = None if raw_url is None else _url(raw_url)
        webhook_failover_url = None if raw_failover is None else _url(raw_failover)
        if (raw_url is not None and webhook_url is None) or (raw_failover is not None and webhook_failover_url is None):
            reason = reason or "invalid_webhook_url"
    if reason is not None or channel is None or time is None or data is None:
        return Skipped(event_id, stream, reason or "invalid_data", type_, channel, tenant)
    return Event(event_id, stream, type_, channel, tenant, time, data, webhook_url, webhook_failover_url)
