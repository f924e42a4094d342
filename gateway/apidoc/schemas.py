"""JSON Schema (2020-12) of what goes in and out: events, envelopes, control events, problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from gateway.events import rules
from gateway.events.event import SKIP_REASONS
from gateway.events.position import STREAM_KEY
from gateway.sse.ending import ENDINGS
from gateway.sse.parameters import EVENT_ID, POSITION
from gateway.stream.gap import GapReason

Schema = Mapping[str, Any]


def ref(name: str) -> dict[str, str]:
    """A reference to the shared schema `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(pattern: re.Pattern[str], **more: Any) -> dict[str, Any]:
    """A string that matches the whole of `pattern`."""
    return {"type": "string", "pattern": "^" + pattern.pattern.removesuffix(r"\Z") + "$", **more}


def record(properties: Mapping[str, Any], optional: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """An object with exactly these members."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
        **more,
    }


TYPE = text(rules.TYPE, maxLength=128, description="Event type, dot-separated.", examples=["sms.delivered"])
NAME = text(rules.NAME)
TIME = {"type": "string", "format": "date-time", "maxLength": 35, "description": "When it happened, RFC 3339."}
_ANY = {"description": "Any JSON value. Numbers, key order and spelling reach the consumer as they were sent."}
# Narrower than gateway.events.rules.check_url at one point only: no IPv6 literals.
URL = {
    "type": "string",
    "maxLength": rules.MAX_URL,
    "pattern": r"^https?://[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?(?::[1-9][0-9]{0,3})?(?:[/?][!\x24-;=?-Z_a-z~]*)?$",
    "examples": ["https://example.com/hook"],
}


def or_null(schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"], "description": description}


DRAFT_FIELDS: Schema = {
    "type": {
        **TYPE,
        "not": {"pattern": "^" + re.escape(rules.RESERVED_TYPE_PREFIX)},
        "description": "Event type, dot-separated. Types that begin with `gateway.` are reserved.",
    },
    "data": _ANY,
    "channel": or_null(NAME, "What subscribers filter on. Default: the first segment of `type`."),
    "tenant": or_null(NAME, "Whose event it is."),
    "time": or_null(TIME, "When it happened, RFC 3339. Default: when Redis stored it."),
    "stream": or_null(text(STREAM_KEY), "Stream key. Default: the first one that is served."),
    "webhook_url": or_null(URL, "Deliver this event also to this URL."),
    "webhook_failover_url": or_null(URL, "Tried after the last attempt on `webhook_url`."),
}
"""The fields of an event that is published over HTTP."""

_ENVELOPE_FIELDS: Schema = {
    "id": EVENT_ID,
    "stream": text(STREAM_KEY),
    "channel": NAME,
    "type": TYPE,
    "time": TIME,
    "tenant": NAME,
    "data": _ANY,
}

_CLOUD_EVENT: Schema = {
    "specversion": {"const": "1.0"},
    "id": EVENT_ID,
    "source": {"type": "string", "format": "uri-reference"},
    "type": TYPE,
    "subject": NAME,
    "time": TIME,
    "datacontenttype": {"const": "application/json"},
    "channel": NAME,
    "tenant": NAME,
    "data": _ANY,
}

_TELNYX_DATA = record(
    {
        "record_type": {"const": "event"},
        "id": {"type": "string", "format": "uuid"},
        "event_type": TYPE,
        "occurred_at": TIME,
        "payload": _ANY,
    }
)

FORMATS: Schema = {
    "native": record(_ENVELOPE_FIELDS, optional=("tenant",), description="`format=native`, the default."),
    "raw": {"description": "`format=raw`: the payload alone, any JSON value."},
    "trunx": record(
        {"channel": NAME, "eventType": TYPE, "payload": _ANY, "customerId": NAME, "timestamp": TIME},
        optional=("customerId",),
        description="`format=trunx`.",
    ),
    "truedy": record({"event": TYPE, "timestamp": TIME, "data": _ANY}, description="`format=truedy`."),
    "telnyx": record(
        {
            "data": _TELNYX_DATA,
            "meta": record(
                {"attempt": {"type": "integer", "minimum": 1}, "delivered_to": {"type": ["string", "null"]}}
            ),
        },
        description="`format=telnyx`.",
    ),
    "tryvox": {
        "type": "object",
        "description": "`format=tryvox`: `event`, the members of the payload, `timestamp`.",
        "properties": {"event": TYPE, "timestamp": _ANY},
        "required": ["event", "timestamp"],
    },
    "cloudevents": record(
        _CLOUD_EVENT, optional=("tenant",), description="`format=cloudevents`: CloudEvents 1.0, structured."
    ),
}
"""Format name -> what an event looks like in it."""

_GAP: Schema = {
    "stream": text(STREAM_KEY),
    "requested": EVENT_ID,
    "resumed_at": EVENT_ID,
    "reason": {"enum": list(get_args(GapReason))},
}

CONTROLS: Schema = {
    "gateway.gap": record(_GAP, description="Events after the asked position may be gone."),
    "gateway.caught-up": record(
        {"position": POSITION, "replayed": {"type": "integer", "minimum": 0}},
        description="Replay is over; what follows is live.",
    ),
    "gateway.position": record(
        {"position": POSITION},
        description="The consumer's filter passed over many events: resume from here.",
    ),
    "gateway.skipped": record(
        {"stream": text(STREAM_KEY), "id": EVENT_ID, "reason": {"enum": list(SKIP_REASONS)}},
        description="An entry broke a rule and was passed over.",
    ),
    "gateway.closing": record(
        {
            "reason": {"enum": [ending.reason for ending in ENDINGS if ending.told]},
            "reconnect": {"type": "boolean"},
        },
        description="The server ends this connection.",
    ),
}
"""Control event -> its data."""

PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": record({"field": {"type": "string"}, "message": {"type": "string"}}),
        },
    },
    "required": ["type", "title", "status", "detail"],
}

SHARED: Schema = {
    "Draft": record(
        DRAFT_FIELDS,
        optional=tuple(name for name in DRAFT_FIELDS if name not in ("type", "data")),
        description="An event to publish.",
    ),
    "Published": record(
        {"ids": {"type": "array", "items": EVENT_ID, "minItems": 1}}, description="The ids, in input order."
    ),
    "Event": FORMATS["native"],
    "Page": record(
        {
            "events": {
                "type": "array",
                "description": "In the asked format; `native` unless `format` says otherwise.",
                "items": {"anyOf": [ref("Event"), *(shape for name, shape in FORMATS.items() if name != "native")]},
            },
            "next": {**POSITION, "description": "The `since` of the page that follows."},
            "gap": {"anyOf": [{"type": "null"}, ref("Gap")], "description": "Events that are no longer there."},
        },
        description="A page of history.",
    ),
    "Gap": CONTROLS["gateway.gap"],
    "Problem": PROBLEM,
}
"""The schemas of ``components``."""
