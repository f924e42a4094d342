"""The API as OpenAPI 3.1 and AsyncAPI 3.0."""

from __future__ import annotations

from typing import Any

from gateway import __version__


def openapi() -> dict[str, Any]:
    """``/openapi.json``."""
    return {"openapi": "3.1.0", "info": {"title": "SSE gateway", "version": __version__}, "paths": {}}


def asyncapi() -> dict[str, Any]:
    """``/asyncapi.json``."""
    return {"asyncapi": "3.0.0", "info": {"title": "SSE gateway", "version": __version__}}
