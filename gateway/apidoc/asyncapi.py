"""``/asyncapi.json``: what a stream of ``GET /api/events`` carries, event by event."""

from __future__ import annotations

from typing import Any

from gateway import __version__
from gateway.apidoc.schemas import CONTROLS, FORMATS, Schema
from gateway.sse.parameters import PARAMETERS, POSITION

_EVENT_FIELD = "The `event:` line of SSE."


def _message(name: str, payload: Schema, event: Schema, required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": payload.get("description", ""),
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "description": "The other lines of an SSE frame.",
            "properties": {
                "event": {**event, "description": _EVENT_FIELD},
                "id": {**POSITION, "description": "The `id:` line: the position to resume from."},
            },
            "required": list(required),
        },
        "payload": dict(payload),
    }


def _messages() -> dict[str, Any]:
    # With named=false events have no `event:` line; control events always have one.
    events = {name: _message(name, shape, {"type": "string"}, ("id",)) for name, shape in FORMATS.items()}
    controls = {
        name.replace(".", "-"): _message(name, data, {"const": name}, ("event", "id"))
        for name, data in CONTROLS.items()
    }
    return events | controls


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document. The gateway is the application: it sends, the consumer receives."""
    messages = _messages()
    query = {
        parameter.name: {**parameter.schema, "description": parameter.meaning}
        for parameter in PARAMETERS
        if not parameter.credential
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SSE gateway: streams",
            "version": __version__,
            "description": "Events as Server-Sent Events or, with `Accept: application/x-ndjson`, as lines of JSON. "
            'In NDJSON a control event is the line `{"control":"gateway.gap","id":"<position>","data":{...}}`.',
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "events": {
                "address": "/api/events",
                "description": "Live events of one or several Redis Streams, from any position.",
                "messages": messages,
            }
        },
        "operations": {
            "stream": {
                "action": "send",
                "channel": {"$ref": "#/channels/events"},
                "summary": "Events in the asked format, and control events.",
                "bindings": {
                    "http": {
                        "method": "GET",
                        "query": {"type": "object", "properties": query},
                        "bindingVersion": "0.3.0",
                    }
                },
                "messages": [{"$ref": f"#/channels/events/messages/{key}"} for key in messages],
            }
        },
    }
