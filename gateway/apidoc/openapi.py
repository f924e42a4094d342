"""``/openapi.json``: the routes that the application has, each with its description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway import __version__
from gateway.apidoc.answers import SECURITY_SCHEMES
from gateway.apidoc.paths import OPERATIONS
from gateway.apidoc.schemas import SHARED
from gateway.apidoc.webhooks import WEBHOOK_SCHEMAS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Undescribed(LookupError):
    """A route that nobody described."""


def described_routes(routes: Iterable[Any]) -> list[tuple[str, str]]:
    """(method, path) of the routes that belong into the document: all but pages, and HEAD beside GET."""
    return [
        (method, route.path)
        for route in routes
        if getattr(route, "include_in_schema", False)
        for method in sorted(getattr(route, "methods", None) or ())
        if method != "HEAD"
    ]


def openapi(routes: Iterable[Any]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an application with these Starlette routes. Raises `Undescribed`."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path in described_routes(routes):
        operation = OPERATIONS.get((method, path))
        if operation is None:
            raise Undescribed(f"{method} {path} is not described in gateway.apidoc.paths")
        paths.setdefault(path, {})[method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {
            "title": "SSE gateway",
            "version": __version__,
            "description": "Server-Sent Events and signed webhooks from Redis Streams.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in ("events", "webhooks", "access", "operations")],
        "paths": paths,
        "components": {"schemas": {**SHARED, **WEBHOOK_SCHEMAS}, "securitySchemes": dict(SECURITY_SCHEMES)},
    }
