"""The page at ``/`` and its files: read once, served from memory.

The files live under ``/assets/<version>/``, where the version is a digest of them all. A file is therefore cached
for ever under its address, a new release has new addresses, and modules that import each other by relative paths
never mix releases. The page itself is revalidated on each visit.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from types import MappingProxyType
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        # A payload can then not become markup even by a mistake of ours: innerHTML and its kin throw.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
)
"""Sent with the page and with each of its files."""

_REVALIDATE = "no-cache"
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    """A file in memory."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> _File:
        suffix = name[name.rindex(".") :]
        return cls(body, _MEDIA_TYPES[suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"')

    def response(self, request: Request, cache_control: str) -> Response:
        """The file, or 304 when the browser has it (RFC 9110 section 13.1.2)."""
        headers = {**SECURITY_HEADERS, "ETag": self.etag, "Cache-Control": cache_control}
        if _has(request.headers.get("if-none-match", ""), self.etag):
            return Response(status_code=304, headers=headers)
        # Set here, not by `media_type`: Starlette adds a charset to text types only when none is there.
        return Response(self.body, headers={**headers, "Content-Type": self.media_type})


def _has(if_none_match: str, etag: str) -> bool:
    candidates = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return etag in candidates or candidates == ["*"]


def _read(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            found |= _read(entry, f"{name}/")
        elif name[name.rfind(".") :] in _MEDIA_TYPES:
            found[name] = entry.read_bytes()
    return found


def _version(contents: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(f"{name}\0{len(contents[name])}\0".encode() + contents[name])
    return digest.hexdigest()[:12]


def _redis_cli(url: str) -> str:
    """The command that reaches Redis at `url`, as far as strangers may know it: a port of this machine, no more."""
    parts = urlsplit(url)
    on_loopback = parts.scheme == "redis" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    return f"redis-cli -p {parts.port or 6379}" if on_loopback else "redis-cli"


def routes(*, stream: str = "events", redis_url: str = "") -> list[BaseRoute]:
    """The routes of the page and its files.

    The page explains how to publish to `stream`, the default one, over HTTP and with redis-cli. Of `redis_url` it shows
    the port when Redis is on loopback, else nothing.
    """
    contents = _read(files(__package__) / "page")
    version = _version(contents)
    template = Template(contents.pop("index.html").decode())
    page_text = template.substitute(
        version=version, stream=html.escape(stream), redis_cli=html.escape(_redis_cli(redis_url))
    )
    page = _File.of("index.html", page_text.encode())
    assets = {name: _File.of(name, body) for name, body in contents.items()}

    async def serve_page(request: Request) -> Response:
        return page.response(request, _REVALIDATE)

    async def serve_asset(request: Request) -> Response:
        asset = assets.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404, "There is no such file.")
        # While releases overlap behind a proxy, a page may ask for the files of the other one: serve ours, uncached.
        known = request.path_params["version"] == version
        return asset.response(request, _FOR_EVER if known else _REVALIDATE)

    return [
        Route("/", serve_page, methods=["GET"], name="dashboard", include_in_schema=False),
        Route("/assets/{version}/{name:path}", serve_asset, methods=["GET"], include_in_schema=False),
    ]
