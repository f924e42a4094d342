"""What goes wrong, said to people and programs: RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

CONTENT_TYPE = "application/problem+json"


class FieldError(NamedTuple):
    """One bad input: `field` is a parameter's name or a path such as ``[3].type``."""

    field: str
    message: str


class Problem(Exception):
    """An answer that is an error. `detail` and `errors` are shown to the client: nothing secret goes in."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = extra

    def body(self) -> bytes:
        """The JSON object: ``type``, ``title``, ``status``, ``detail`` and, for bad input, ``errors``."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            content["errors"] = [error._asdict() for error in self.errors]
        return orjson.dumps({**content, **self.extra})


def bad_request(field: str, message: str) -> Problem:
    """400 for one bad parameter."""
    return Problem(400, f"{field}: {message}", errors=[FieldError(field, message)])


def unavailable(detail: str, retry_after: int = 1) -> Problem:
    """503 with ``Retry-After`` in seconds."""
    return Problem(503, detail, headers={"Retry-After": str(retry_after)})
