"""An event as bytes, in each format of CONTRACT section 2: the same bytes for SSE ``data:`` and for a webhook body.

The payload is put in as text, never re-encoded.  Shapes are those of the vendors' documents: Trunx "Payload Format",
Truedy "Event payload structure", Telnyx "Webhook Structure", TryVox "Webhook Payloads", CloudEvents 1.0 JSON Event
Format.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote as percent_encode

from gateway.events.event import Event, format_time
from gateway.events.jsontext import NotJSON, kind, members, quote
from gateway.events.position import format_id

Encoder = Callable[[Event], bytes]

# uuid5 needs a namespace of ours; this one is uuid5(NAMESPACE_DNS, "events.sse-gateway").
_NAMESPACE = uuid.UUID("0c4a2c0e-2f5e-5c0a-9b57-5d2a3d9f2c11")


def native(event: Event) -> bytes:
    """``{"id","stream","channel","type","time","tenant"?,"data"}``, keys in this order, one line."""
    id_, stream, type_, channel, tenant, stamp, data, _, _, text = event
    tenant_part = b"" if tenant is None else b'"tenant":"%b",' % tenant.encode()
    time = (stamp or format_time(id_ >> 64)).encode()
    names = _names(stream, channel, type_)
    return b'{"id":"%b%b%b",%b"data":%b}' % (text or event.spelled, names, time, tenant_part, data)


@lru_cache(maxsize=4096)
def _names(stream: str, channel: str, type_: str) -> bytes:
    # Every text here passed gateway.events.rules: none can hold a character that JSON would have to escape.
    return f'","stream":"{stream}","channel":"{channel}","type":"{type_}","time":"'.encode()


def raw(event: Event) -> bytes:
    """Only the payload."""
    return event.data


def trunx(event: Event) -> bytes:
    """``{"channel","eventType","payload","customerId"?,"timestamp"}``."""
    customer = "" if event.tenant is None else f'"customerId":"{event.tenant}",'
    return b'{"channel":"%b","eventType":"%b","payload":%b,%b"timestamp":"%b"}' % (
        event.channel.encode(),
        event.type.encode(),
        event.data,
        customer.encode(),
        event.time.encode(),
    )


def truedy(event: Event) -> bytes:
    """``{"event","timestamp","data"}``."""
    return b'{"event":"%b","timestamp":"%b","data":%b}' % (
        event.type.encode(),
        event.time.encode(),
        event.data,
    )


def event_uuid(event: Event) -> str:
    """A UUID that depends on stream and id alone: Telnyx receivers de-duplicate on it."""
    return str(uuid.uuid5(_NAMESPACE, f"{event.stream}/{format_id(event.id)}"))


def telnyx(event: Event, attempt: int = 1, delivered_to: str | None = None) -> bytes:
    """``{"data":{"record_type","id","event_type","occurred_at","payload"},"meta":{"attempt","delivered_to"}}``.

    `attempt` counts from 1. Over SSE there is no URL, so ``delivered_to`` is null.
    """
    return (
        b'{"data":{"record_type":"event","id":"%b","event_type":"%b","occurred_at":"%b","payload":%b},'
        b'"meta":{"attempt":%d,"delivered_to":%b}}'
    ) % (
        event_uuid(event).encode(),
        event.type.encode(),
        event.time.encode(),
        event.data,
        attempt,
        b"null" if delivered_to is None else quote(delivered_to),
    )


def tryvox(event: Event) -> bytes:
    """Flat: ``{"event", ...the members of the payload..., "timestamp"}``.

    A payload that is not an object goes under ``data``.  ``event`` is always the event's type; a ``timestamp`` in the
    payload stays and takes the place of ours.
    """
    text = event.data.decode()
    parts = [f'"event":"{event.type}"']
    keys: set[str] = set()
    for key, value in _flat(text):
        if key != "event":
            keys.add(key)
            parts.append(f"{_key(key)}:{value}")
    if "timestamp" not in keys:
        parts.append(f'"timestamp":"{event.time}"')
    return f"{{{','.join(parts)}}}".encode()


def _flat(text: str) -> list[tuple[str, str]]:
    try:
        return members(text) if kind(text) == "{" else [("data", text)]
    except NotJSON:  # valid, but nested deeper than the scanner of members goes
        return [("data", text)]


def _key(key: str) -> str:
    try:
        return quote(key).decode()
    except (TypeError, ValueError):  # a lone surrogate: legal in JSON as \udXXX, without a UTF-8 form
        return (
            '"'
            + "".join(f"\\u{ord(c):04x}" if 0xD800 <= ord(c) < 0xE000 else quote(c)[1:-1].decode() for c in key)
            + '"'
        )


def _source(stream: str) -> str:
    return "/streams/" + percent_encode(stream, safe=":")


def cloudevents(event: Event) -> bytes:
    """Structured CloudEvents 1.0; ``channel`` and ``tenant`` are extension attributes, ``subject`` is the channel."""
    tenant = "" if event.tenant is None else f'"tenant":"{event.tenant}",'
    head = (
        f'{{"specversion":"1.0","id":"{format_id(event.id)}","source":"{_source(event.stream)}",'
        f'"type":"{event.type}","subject":"{event.channel}","time":"{event.time}",'
        f'"datacontenttype":"application/json","channel":"{event.channel}",{tenant}"data":'
    )
    return b"%b%b}" % (head.encode(), event.data)


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "native": native,
        "raw": raw,
        "trunx": trunx,
        "truedy": truedy,
        "telnyx": telnyx,
        "tryvox": tryvox,
        "cloudevents": cloudevents,
    }
)
"""Format name to encoder."""
