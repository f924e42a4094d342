"""An event: one entry of a Redis Stream that keeps the rules of CONTRACT section 1.

`read_entries` turns entries into an `Event` each, or a `Skipped` that says which rule it broke; it never raises.
Both are tuples: made in one C call, immutable, valid from birth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from orjson import JSONDecodeError, loads

from gateway.events import rules
from gateway.events.jsontext import is_json, one_line, quote
from gateway.events.position import EventId, format_id, read_id

_new = tuple.__new__  # a third of the cost of calling the class
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can name
_MILLISECONDS = tuple(f"{ms:03d}Z" for ms in range(1000))


class Event(NamedTuple):
    """A published event."""

    id: EventId
    stream: str
    type: str
    channel: str
    tenant: str | None
    stamp: str | None
    """When it happened, as the publisher spelled it."""
    data: bytes
    """One line of JSON text, as the publisher spelled it."""
    webhook_url: str | None = None
    webhook_failover_url: str | None = None
    id_text: bytes | None = None
    """The id as Redis spells it, for those who write it (making it anew is a tenth of a replay); None if not known."""

    @property
    def spelled(self) -> bytes:
        """The id, ``ms-seq``."""
        return self.id_text or format_id(self.id).encode()

    @property
    def time(self) -> str:
        """RFC 3339: when it happened, by default the millisecond part of the id."""
        return self.stamp or format_time(self.id >> 64)


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
def read_type(raw: bytes) -> tuple[str, str, str | None] | None:
    """(type, default channel, "reserved" or None) of an event type; None when it breaks the rule."""
    try:
        text = raw.decode("ascii")
        rules.check_type(text)
    except ValueError:
        return None
    return text, text.partition(".")[0], "reserved" if rules.is_reserved_type(text) else None


@lru_cache(maxsize=8192)
def read_name(raw: bytes) -> str | None:
    """A channel or tenant; None when it breaks the rule."""
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
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%S.")


def format_time(ms: int) -> str:
    """RFC 3339 in UTC with milliseconds. Times past the year 9999, which RFC 3339 cannot say, become its last ms."""
    seconds = ms // 1000
    rest = ms - seconds * 1000 if seconds <= _LAST_SECOND else 999
    # strftime leaves years below 1000 unpadded on some C libraries; ids cannot lie before 1970.
    return _second(seconds) + _MILLISECONDS[rest]


def read_data(raw: bytes) -> bytes | None:
    """The payload as one line of JSON text; text that is not JSON becomes a JSON string; None if not UTF-8."""
    if is_json(raw):
        return one_line(raw)
    try:
        return quote(raw.decode())
    except UnicodeDecodeError:
        return None


def read_entries(stream: str, reply: Iterable[tuple[bytes, Sequence[bytes] | None]]) -> list[Entry]:
    """Decode the (id, fields) of a reply. Fields are name, value, name, value, as Redis sends them.

    An entry deleted between two steps of the server can come with nil for fields (seen with XREADGROUP and
    XAUTOCLAIM); it is left out.
    """
    entries: list[Entry] = []
    payloads: list[bytes] = []
    last_ms, base = b"", 0
    last_type, typed = b"", read_type(b"")
    for raw_id, fields in reply:
        if fields is None:
            continue
        known = len(fields)
        if 4 <= known <= 8 and fields[0] == b"type" and fields[2] == b"data":
            # What most publishers write, in one go, without calls and a dict for each entry; for short replies, and
            # for pages that `gateway.events.alike` hands back.
            if fields[1] != last_type:
                last_type, typed = fields[1], read_type(fields[1])
            channel = tenant = None
            if known > 4 and fields[4] == b"channel":
                channel = read_name(fields[5])
                if known == 8 and fields[6] == b"tenant":
                    tenant = read_name(fields[7])
            # Neither a name more than these, nor one that breaks its rule.
            whole = known == 4 or (channel is not None and (known == 6 or tenant is not None))
            if whole and typed is not None and typed[2] is None:
                data = fields[3]
                try:
                    loads(data)
                except JSONDecodeError:
                    data = read_data(data)  # type: ignore[assignment]
                if data is not None:
                    ms, _, seq = raw_id.partition(b"-")
                    if ms != last_ms:
                        last_ms, base = ms, int(ms) << 64
                    id_, type_ = base | int(seq), typed[0]
                    channel = channel or typed[1]
                    entries.append(_new(Event, (id_, stream, type_, channel, tenant, None, data, None, None, raw_id)))
                    payloads.append(data)
                    continue
        entries.append(_read_entry(stream, raw_id, fields))
    return _on_one_line(entries, payloads)


def _on_one_line(entries: list[Entry], payloads: list[bytes]) -> list[Entry]:
    text = b"".join(payloads)
    # Looked for once, not in each; `b"\n" in text` is ten times as slow, because CPython tries to read an int first.
    if 10 in text or 13 in text:
        return [it._replace(data=one_line(it.data)) if isinstance(it, Event) else it for it in entries]
    return entries


def read_entry(stream: str, raw_id: bytes, fields: Sequence[bytes]) -> Entry:
    """Decode one entry, as `read_entries` does."""
    return read_entries(stream, ((raw_id, fields),))[0]


def _read_entry(stream: str, raw_id: bytes, fields: Sequence[bytes]) -> Entry:
    """Of a repeated name the last value counts."""
    it = iter(fields)
    entry = dict(zip(it, it, strict=False))
    raw_type, raw_data = entry.get(b"type"), entry.get(b"data")
    typed = None if raw_type is None else read_type(raw_type)
    data = None if raw_data is None else read_data(raw_data)
    return _read_options(raw_id, stream, entry, typed, data)


def _read_options(
    raw_id: bytes,
    stream: str,
    entry: Mapping[bytes, bytes],
    typed: tuple[str, str, str | None] | None,
    data: bytes | None,
) -> Entry:
    """The fields that not every event has. The reason of a skip is that of the last rule that is broken."""
    event_id = read_id(raw_id)
    raw_channel, raw_tenant, raw_stamp = entry.get(b"channel"), entry.get(b"tenant"), entry.get(b"time")
    tenant = None if raw_tenant is None else read_name(raw_tenant)
    channel = None if raw_channel is None else read_name(raw_channel)
    if typed is None:
        return Skipped(event_id, stream, "invalid_type" if b"type" in entry else "missing_type", None, channel, tenant)
    type_, default_channel, reason = typed
    stamp = None if raw_stamp is None else _time(raw_stamp)
    urls = entry.get(b"webhook_url"), entry.get(b"webhook_failover_url")
    webhook_url, failover_url = (None if raw is None else _url(raw) for raw in urls)
    for broken, name in (
        (
            (urls[0] is None) != (webhook_url is None) or (urls[1] is None) != (failover_url is None),
            "invalid_webhook_url",
        ),
        (raw_channel is not None and channel is None, "invalid_channel"),
        (raw_tenant is not None and tenant is None, "invalid_tenant"),
        (raw_stamp is not None and stamp is None, "invalid_time"),
        (data is None, "invalid_data" if b"data" in entry else "missing_data"),
    ):
        if broken and reason != "reserved":
            reason = name
    if raw_channel is None:
        channel = default_channel
    if reason is not None or channel is None or data is None:
        return Skipped(event_id, stream, reason or "invalid_data", type_, channel, tenant)
    return Event(event_id, stream, type_, channel, tenant, stamp, data, webhook_url, failover_url, raw_id)
