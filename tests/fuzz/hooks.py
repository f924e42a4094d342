"""What schemathesis must know and OpenAPI cannot say. Loaded by `schemathesis` (SCHEMATHESIS_HOOKS)."""

from __future__ import annotations

from typing import Any

import schemathesis

_RESUME = ("last_event_id", "lastEventId", "lastEventID")


def _given(values: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(values or {}).items() if value not in ("", [], None)}


def _is_composite(text: Any) -> bool:
    return "@" in str(text)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out valid parts that do not go together: those requests are refused, rightly."""
    if case.meta is None or case.meta.generation.mode.is_negative:
        return True
    if case.media_type == "application/x-ndjson":
        return False  # a string to OpenAPI; only some strings are lines of events
    body = case.body if isinstance(case.body, dict) else {}
    if body.get("url") and body.get("url") == body.get("failover_url"):
        return False
    # What a secret or a header may be depends on the dialect.
    if body.get("secret") is not None or body.get("headers"):
        return False
    # 16.0 is an integer to JSON Schema, and none to us.
    if isinstance(body.get("max_in_flight"), float):
        return False
    query, headers = _given(case.query), _given(case.headers)
    if "since" in query and "last" in query:
        return False
    positions = [query[name] for name in _RESUME if name in query]
    positions += [value for name, value in headers.items() if name.lower() == "last-event-id"]
    positions += [query["since"]] if "since" in query else []
    several = len({name for value in query.get("stream", []) for name in str(value).split(",")}) > 1
    # A composite position must name one of the streams, and several streams need one.
    return not any(_is_composite(position) or several for position in positions)


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: Any, value: Any) -> Any:
    """Text as it is."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")
