"""``/api/webhooks`` as OpenAPI operations. The fields of an endpoint are those of `EndpointConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from gateway.apidoc.answers import HEADER, json_answer, problems
from gateway.apidoc.schemas import NAME, TIME, URL, Schema, or_null, record, ref, text
from gateway.bridge.attempt import ErrorClass
from gateway.bridge.delivery import STATUSES, Trigger
from gateway.bridge.dialects import DIALECTS
from gateway.bridge.endpoint import EndpointConfig
from gateway.events.filter import CHANNEL_GLOB, TYPE_GLOB
from gateway.events.position import STREAM_KEY
from gateway.sse.parameters import EVENT_ID, PARAMETERS

_EXACT: Schema = {
    "url": URL,
    "failover_url": {**or_null(URL, ""), "examples": ["https://backup.example.com/hook"]},
    "events": {"items": text(TYPE_GLOB)},
    "channels": {"items": text(CHANNEL_GLOB)},
    "stream": text(STREAM_KEY),
    "tenant": or_null(NAME, ""),
    "dialect": {"enum": list(DIALECTS)},
    "reply_stream": {**or_null(text(STREAM_KEY), ""), "not": {"type": "string", "pattern": "^gateway:"}},
}
"""What pydantic's schema does not say, because functions check it."""


def _fields() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, schema in EndpointConfig.model_json_schema()["properties"].items():
        exact = _EXACT.get(name, {})
        merged = {**schema, **exact, "description": schema.get("description", "")}
        if "anyOf" in merged and "type" in exact:
            del merged["anyOf"]
        merged.pop("title", None)
        fields[name] = merged
    names = {"type": "string", "enum": list(DIALECTS)}
    fields["retry"]["anyOf"] = [part if part.get("type") != "string" else names for part in fields["retry"]["anyOf"]]
    return fields


_FIELDS = _fields()
_SECRET = {"type": ["string", "null"], "description": "Bring your own signing secret; left out, one is made."}
_NULLABLE_TIME = or_null(TIME, "")

_VIEW: Schema = {
    "id": {"type": "string", "pattern": "^whk_"},
    **_FIELDS,
    "createdAt": TIME,
    "updatedAt": TIME,
    "public_key": {"type": "string", "description": "Base64 of the 32 raw bytes, for dialects with Ed25519."},
    "disabled_reason": {"type": "string"},
    "secret": {"type": "string", "description": "Shown at creation and rotation only."},
    "position": {**or_null(EVENT_ID, ""), "description": "Everything up to here is delivered or in the ledger."},
    "retries": {"type": "integer", "minimum": 0},
    "failing_since": _NULLABLE_TIME,
    "previous_valid_until": _NULLABLE_TIME,
}
_VIEW_OPTIONAL = (
    "public_key",
    "disabled_reason",
    "secret",
    "position",
    "retries",
    "failing_since",
    "previous_valid_until",
)

_LINE: Schema = {
    "id": {"type": "string", "pattern": "^log_"},
    "eventType": {"type": "string"},
    "eventId": EVENT_ID,
    "status": {"enum": list(STATUSES)},
    "attempts": {"type": "integer", "minimum": 0},
    "responseCode": {"type": ["integer", "null"]},
    "createdAt": TIME,
    "error": {"enum": [*get_args(ErrorClass), None]},
    "trigger": {"enum": list(get_args(Trigger))},
    "nextAttemptAt": _NULLABLE_TIME,
}

_MS = {"type": ["number", "null"], "description": "Milliseconds from the start of the attempt."}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_ATTEMPT: Schema = {
    "attempt": {"type": "integer", "minimum": 1},
    "url": {"type": "string"},
    "started": TIME,
    "request": {
        "type": "object",
        "properties": {"headers": _TEXTS, "body": {"type": ["string", "null"]}},
        "required": ["headers"],
    },
    "status": {"type": ["integer", "null"]},
    "error": {"enum": [*get_args(ErrorClass), None]},
    "detail": {"type": "string"},
    "response": record({"headers": _TEXTS, "body": {"type": "string"}, "truncated": {"type": "boolean"}}),
    "duration": record(dict.fromkeys(("dns", "connect", "tls", "first_byte", "total"), _MS)),
}

_START = next(parameter for parameter in PARAMETERS if parameter.name == "since")
_WHEN = {
    "type": "string",
    "anyOf": [part for part in _START.schema["anyOf"] if "@" not in part.get("pattern", "")]
    + [{"pattern": EVENT_ID["pattern"]}],
    "description": "An event id, an RFC 3339 time, `10m`, `earliest` or `latest`.",
}

WEBHOOK_SCHEMAS: Schema = {
    "Endpoint": record(
        {**_FIELDS, "secret": _SECRET},
        optional=tuple(name for name in (*_FIELDS, "secret") if name != "url"),
        description="A webhook endpoint, as its owner describes it.",
    ),
    "EndpointChange": record(
        {name: schema for name, schema in _FIELDS.items() if name != "stream"},
        optional=tuple(_FIELDS),
        description="Fields to change; the others stay as they are. The stream cannot be changed.",
    ),
    "Webhook": record(_VIEW, optional=_VIEW_OPTIONAL, description="A webhook endpoint, as the gateway knows it."),
    "Delivery": record(_LINE, description="One line of the log."),
    "DeliveryDetail": {
        "type": "object",
        "description": "A delivery with every attempt.",
        "properties": {
            **_LINE,
            "stream": text(STREAM_KEY),
            "dialect": {"enum": ["native", *DIALECTS]},
            "history": {"type": "array", "items": record(_ATTEMPT)},
        },
        "required": [*_LINE, "stream", "dialect", "history"],
    },
    "Replay": record(
        {
            "id": {"type": "string", "pattern": "^rpl_"},
            "status": {"enum": ["running", "done", "cancelled"]},
            "position": EVENT_ID,
            "until": EVENT_ID,
            "createdAt": TIME,
        },
        description="Events that are delivered again.",
    ),
}
"""Further schemas of ``components``."""


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


_ID = _path("id", "The webhook's id.")
_LOG_ID = _path("log_id", "The delivery's id.")
_JOB_ID = _path("job_id", "The replay's id.")


def _operation(
    name: str,
    summary: str,
    answers: Mapping[str, Any],
    *parameters: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
    required: bool = True,
) -> dict[str, Any]:
    statuses = [400, 401, 403, 409, 429, 503]
    statuses += [413, 422] if body is not None else []
    statuses += [404] if parameters else []
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": ["webhooks"],
        "summary": summary,
        "security": [*HEADER, {}],
        "responses": {**answers, **problems(*sorted(statuses))},
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": body}}}
    return operation


def _ok(what: str, schema: Mapping[str, Any], status: int = 200) -> dict[str, Any]:
    return {str(status): json_answer(what, schema)}


_LOG_QUERY = (
    {
        "name": "limit",
        "in": "query",
        "description": "The most lines.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
    },
    {
        "name": "status",
        "in": "query",
        "description": "Only deliveries that stand so.",
        "schema": {"type": "string", "enum": ["", *STATUSES]},
    },
    {
        "name": "before",
        "in": "query",
        "description": "The `next` of the page before.",
        "schema": {"type": "string"},
    },
)

_ROTATION = record(
    {
        "overlap_seconds": {
            "type": "number",
            "minimum": 0,
            "maximum": 7 * 86400,
            "default": 86400,
            "description": "How long the old secret signs too, where the dialect can carry two signatures.",
        },
        "secret": _SECRET,
    },
    optional=("overlap_seconds", "secret"),
)

_WEBHOOK = ref("Webhook")
_LIST = {"type": "array", "items": _WEBHOOK}
_LOGS = record({"logs": {"type": "array", "items": ref("Delivery")}, "next": {"type": ["string", "null"]}})
_TESTED = {"allOf": [ref("DeliveryDetail")]}

WEBHOOKS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("POST", "/api/webhooks"): _operation(
        "create_webhook",
        "Add a webhook",
        _ok("Added; `secret` is shown here only.", _WEBHOOK, 201),
        body=ref("Endpoint"),
    ),
    ("GET", "/api/webhooks"): _operation(
        "list_webhooks", "All webhooks of the caller", _ok("Oldest first.", record({"webhooks": _LIST}))
    ),
    ("GET", "/api/webhooks/{id}"): _operation("get_webhook", "One webhook", _ok("It.", _WEBHOOK), _ID),
    ("PATCH", "/api/webhooks/{id}"): _operation(
        "change_webhook",
        "Change fields of a webhook",
        _ok("As it is now.", _WEBHOOK),
        _ID,
        body=ref("EndpointChange"),
        required=False,
    ),
    ("DELETE", "/api/webhooks/{id}"): _operation(
        "delete_webhook", "Remove a webhook and its log", {"204": {"description": "Removed."}}, _ID
    ),
    ("GET", "/api/webhooks/{id}/logs"): _operation(
        "webhook_logs", "Deliveries", _ok("Newest first.", _LOGS), _ID, *_LOG_QUERY
    ),
    ("GET", "/api/webhooks/{id}/logs/{log_id}"): _operation(
        "webhook_log", "A delivery with every attempt", _ok("It.", ref("DeliveryDetail")), _ID, _LOG_ID
    ),
    ("POST", "/api/webhooks/{id}/logs/{log_id}/resend"): _operation(
        "resend_webhook", "Deliver once more, with a new schedule", _ok("Begun.", ref("Delivery"), 202), _ID, _LOG_ID
    ),
    ("POST", "/api/webhooks/{id}/rotate-secret"): _operation(
        "rotate_webhook_secret",
        "A new secret",
        _ok("With the new `secret`.", _WEBHOOK),
        _ID,
        body=_ROTATION,
        required=False,
    ),
    ("POST", "/api/webhooks/{id}/test"): _operation(
        "test_webhook", "Send a `gateway.test` event now", _ok("The attempt.", _TESTED), _ID
    ),
    ("POST", "/api/webhooks/{id}/replay"): _operation(
        "replay_webhook",
        "Deliver again what lies after a position",
        _ok("Begun.", ref("Replay"), 202),
        _ID,
        body=record({"since": _WHEN, "until": _WHEN}, optional=("until",)),
    ),
    ("GET", "/api/webhooks/{id}/replay"): _operation(
        "webhook_replays",
        "Replays of a webhook",
        _ok("Newest first.", record({"replays": {"type": "array", "items": ref("Replay")}})),
        _ID,
    ),
    ("DELETE", "/api/webhooks/{id}/replay/{job_id}"): _operation(
        "cancel_webhook_replay", "Cancel a replay", _ok("As it is now.", ref("Replay")), _ID, _JOB_ID
    ),
    ("POST", "/api/webhooks/{id}/enable"): _operation(
        "enable_webhook", "On again, from the position where it stopped", _ok("As it is now.", _WEBHOOK), _ID
    ),
    ("POST", "/api/webhooks/{id}/disable"): _operation("disable_webhook", "Off", _ok("As it is now.", _WEBHOOK), _ID),
}
"""(method, path) -> OpenAPI operation."""
