"""What each route takes and answers, by (method, path). A route that is not here is an error in `openapi`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.apidoc.answers import HEADER, json_answer, problems
from gateway.apidoc.schemas import record, ref, text
from gateway.apidoc.webhooks import WEBHOOKS
from gateway.publish import IDEMPOTENCY_KEY
from gateway.sse.parameters import PARAMETERS, POSITION, RESUME, Parameter

Operation = Mapping[str, Any]
_GATEWAY_POSITION = {
    "Gateway-Position": {
        "description": "Where this response really starts.",
        "required": True,
        "schema": POSITION,
    }
}


def _query(name: str, parameter: Parameter) -> dict[str, Any]:
    alias = "" if name == parameter.name else f"Another name of `{parameter.name}`. "
    styled = {"style": "form", "explode": True} if parameter.many else {}
    return {
        "name": name,
        "in": "query",
        "description": alias + parameter.meaning,
        **styled,
        "schema": dict(parameter.schema),
    }


def event_parameters() -> list[dict[str, Any]]:
    """Every parameter of ``GET /api/events``, aliases too; credentials are security schemes instead."""
    query = [
        _query(name, parameter)
        for parameter in PARAMETERS
        if not parameter.credential
        for name in (parameter.name, *parameter.aliases)
    ]
    header = {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "Resume after this position. Browsers send it when they reconnect.",
        "schema": RESUME,
    }
    return [*query, header]


SUBSCRIBE: Operation = {
    "operationId": "subscribe",
    "tags": ["events"],
    "summary": "Live events, or a page of history",
    "description": "`Accept` chooses: `text/event-stream` (also `*/*`) and `application/x-ndjson` are live and do not "
    "end; `application/json` is one page. What a stream carries is described in `/asyncapi.json`. HEAD answers the "
    "headers alone. Query parameters that are not listed are refused, unless their name begins with `_`.",
    "parameters": event_parameters(),
    "security": [*HEADER, {"cookie": []}, {"access_token": []}, {"ticket": []}, {}],
    "responses": {
        "200": {
            "description": "The events.",
            "headers": _GATEWAY_POSITION,
            "content": {
                "text/event-stream": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/json": {"schema": ref("Page")},
            },
        },
        **problems(400, 401, 403, 404, 406, 429, 503),
    },
}

PUBLISH: Operation = {
    "operationId": "publish",
    "tags": ["events"],
    "summary": "Add events",
    "description": "One event, or many in an array or as NDJSON. All are stored or none. Needs the scope `publish`; "
    "an event with a `webhook_url` needs `webhooks` too.",
    "security": [*HEADER, {}],
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same key within 24 hours answers the first ids again and stores nothing.",
            "schema": text(IDEMPOTENCY_KEY),
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [ref("Draft"), {"type": "array", "items": ref("Draft"), "minItems": 1}],
                },
                "examples": {
                    "one": {"value": {"type": "sms.delivered", "data": {"id": "msg_1"}, "tenant": "cust_123"}},
                    "many": {"value": [{"type": "sms.sent", "data": 1}, {"type": "sms.sent", "data": 2}]},
                },
            },
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One event a line."},
                "examples": {"two": {"value": '{"type":"sms.sent","data":1}\n{"type":"sms.sent","data":2}\n'}},
            },
        },
    },
    "responses": {
        "201": json_answer("Stored.", ref("Published")),
        **problems(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
    },
}

TICKET: Operation = {
    "operationId": "ticket",
    "tags": ["access"],
    "summary": "A one-use credential for EventSource",
    "description": "Give it as `?ticket=` to one `GET /api/events`, within 30 s. It has the rights of the caller, who "
    "needs the scope `subscribe`.",
    "security": [*HEADER, {}],
    "responses": {
        "201": json_answer(
            "The ticket.",
            record({"ticket": {"type": "string"}, "expires_in": {"type": "integer", "description": "Seconds."}}),
        ),
        **problems(401, 403, 429, 503),
    },
}

_READINESS = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ready", "draining", "unavailable"]},
        "redis": {"type": "boolean"},
        "streams": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"connected": {"type": "boolean"}, "position": {"type": "string"}},
            },
        },
        "connections": {"type": "integer", "minimum": 0},
    },
    "required": ["status"],
    "description": "All but `status` is for the scope `admin`.",
}


def _operation(name: str, summary: str, responses: Mapping[str, Any]) -> Operation:
    return {"operationId": name, "tags": ["operations"], "summary": summary, "responses": dict(responses)}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/events"): SUBSCRIBE,
    ("POST", "/api/events"): PUBLISH,
    ("POST", "/api/tickets"): TICKET,
    **WEBHOOKS,
    ("GET", "/healthz"): _operation(
        "healthz",
        "Whether the process is alive",
        {"200": json_answer("It is.", {"type": "object", "properties": {"status": {"const": "ok"}}})},
    ),
    ("GET", "/readyz"): _operation(
        "readyz",
        "Whether this process can serve",
        {"200": json_answer("It can.", _READINESS), "503": json_answer("It cannot, or is draining.", _READINESS)},
    ),
    ("GET", "/metrics"): _operation(
        "metrics",
        "Metrics for Prometheus",
        {
            "200": {"description": "Text format 0.0.4.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **problems(401, 403, 429),
        },
    ),
    ("GET", "/openapi.json"): _operation(
        "openapi", "This document", {"200": json_answer("OpenAPI 3.1.", {"type": "object"})}
    ),
    ("GET", "/asyncapi.json"): _operation(
        "asyncapi", "What a stream carries", {"200": json_answer("AsyncAPI 3.0.", {"type": "object"})}
    ),
}
"""(method, path) -> OpenAPI operation."""
