"""What answers have in common: problems with their headers, and the credentials that requests may carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.access.carrier import COOKIE
from gateway.apidoc.schemas import ref
from gateway.errors import CONTENT_TYPE

_PROBLEMS: Mapping[int, str] = {
    400: "A parameter or header is wrong; `errors` names it.",
    401: "A key or token is needed, or the one that was sent is not good.",
    403: "The caller may not do or see that; `detail` names what.",
    404: "It is not there, or not for this caller.",
    406: "None of the accepted media types can be had.",
    408: "The body did not arrive in time.",
    409: "A key of that name is not a stream.",
    413: "The body or one event is too large.",
    415: "The body has another media type than those listed.",
    422: "A field breaks a rule; `errors` names it, and nothing was stored.",
    429: "A limit of the caller is reached.",
    503: "Redis cannot be reached, or this process shuts down.",
}

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}

_CHALLENGE = {"WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"type": "string"}}}

HEADER: Sequence[Mapping[str, Any]] = [{"bearer": []}]
"""The credential that every path takes. Where no access is configured, none is needed."""

SECURITY_SCHEMES: Mapping[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`gwk_...`) or a JWT."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "For pages of allowed origins."},
    "access_token": {"type": "apiKey", "in": "query", "name": "access_token", "description": "A key or JWT."},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "From `POST /api/tickets`: for one request, within 30 s.",
    },
}


def problems(*statuses: int) -> dict[str, Any]:
    """Error responses, with the headers that they carry."""
    answers: dict[str, Any] = {}
    for status in statuses:
        answer: dict[str, Any] = {
            "description": _PROBLEMS[status],
            "content": {CONTENT_TYPE: {"schema": ref("Problem")}},
        }
        if status in (429, 503):
            answer["headers"] = _RETRY_AFTER
        if status == 401:
            answer["headers"] = _CHALLENGE
        answers[str(status)] = answer
    return answers


def json_answer(description: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A response of ``application/json``."""
    return {"description": description, "content": {"application/json": {"schema": schema}}, **more}
