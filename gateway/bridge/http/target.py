"""Where a request goes: what a connection and a request line need of a URL."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

_BAD = re.compile(r"[\x00-\x20\x7f\\]")
_PORTS = {"http": 80, "https": 443}


class InvalidTarget(ValueError):
    """The URL cannot be requested."""


class Origin(NamedTuple):
    """What connections are shared by. `host` has no brackets and is ASCII."""

    secure: bool
    host: str
    port: int


class Target(NamedTuple):
    """`head` is the request line and the ``Host`` header, both with their line ends."""

    origin: Origin
    head: bytes


@lru_cache(maxsize=4096)
def read_target(url: str) -> Target:
    """The target of an absolute http or https URL; path and query go out as they are spelled. Raises `InvalidTarget`.

    A name that is not ASCII is encoded by IDNA 2003, as ``getaddrinfo`` does. A user in the URL is refused: the API
    takes none, so it could only hide what the host is.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and not host.isascii():
            host = host.encode("idna").decode()
    except ValueError as error:
        raise InvalidTarget(str(error)) from None
    if _BAD.search(url) or parts.scheme not in _PORTS or not host or port == 0 or "@" in parts.netloc:
        raise InvalidTarget("not an absolute http or https URL without user and spaces")
    usual = _PORTS[parts.scheme]
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    name = (f"[{host}]" if ":" in host else host) + ("" if port in (None, usual) else f":{port}")
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: {name}\r\n".encode("ascii")
    except UnicodeEncodeError:
        raise InvalidTarget("path and query must be ASCII") from None
    return Target(Origin(parts.scheme == "https", host, port or usual), head)
