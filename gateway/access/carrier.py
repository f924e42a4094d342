"""Where a request carries its credential (CONTRACT section 6): header, query or cookie. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from gateway.access.head import Headers

COOKIE = "gateway_token"
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*) *\Z")

Kind = Literal["header", "ticket", "query", "cookie"]


class Credential(NamedTuple):
    """What was sent, and how. Its text is never shown."""

    kind: Kind
    text: str

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind!r})"


class Unusable(Exception):
    """Credentials are there, but not in a form that could be right. The message quotes nothing of them."""


def find_credential(headers: Headers, query: bytes, *, in_url: bool) -> Credential | None:
    """The credential of a request, the most deliberate one first. Raises `Unusable`.

    `in_url`: whether the path takes tickets, tokens in the query, and cookies.  Two of a kind are refused: which of
    them counts would be a guess, and another host of the same site may have set the second cookie.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if given:
        match = _BEARER.match(given[0].decode("latin-1")) if len(given) == 1 else None
        if match is None:
            raise Unusable("send one Authorization header: Bearer and the token")
        return Credential("header", match[1])
    if not in_url:
        return None
    found = _from_query(query)
    if found is not None:
        return found
    lines = [value.decode("latin-1") for name, value in headers if name == b"cookie"]
    cookies = [value for line in lines for value in _cookies(line)]
    if len(cookies) > 1:
        raise Unusable(f"there are {len(cookies)} cookies named {COOKIE}")
    return Credential("cookie", cookies[0]) if cookies else None


def _from_query(query: bytes) -> Credential | None:
    if query.find(b"ticket") < 0 and query.find(b"token") < 0 and query.find(b"%") < 0:  # `in` takes twice as long
        return None
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
    except ValueError:
        return None  # too many parameters: the route says so
    found = [Credential(_KINDS[name], value) for name, value in pairs if name in _KINDS]
    if len(found) > 1:
        raise Unusable("send one of access_token and ticket, once")
    return found[0] if found else None


def in_query(query: bytes) -> bool:
    """Whether there is a credential in a query, usable or not."""
    try:
        return _from_query(query) is not None
    except Unusable:
        return True


_KINDS: Mapping[str, Kind] = {"ticket": "ticket", "access_token": "query"}


def _cookies(line: str) -> Sequence[str]:
    pairs = (part.partition("=") for part in line.split(";"))
    return [value.strip().strip('"') for name, _, value in pairs if name.strip() == COOKIE]


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` (the header) may be one of ours, going by the Host header.

    The scheme is not known behind a proxy that ends TLS, so host and port decide.
    """
    try:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            return False
        mine = urlsplit(f"{parts.scheme}://{host}")
        default = 443 if parts.scheme == "https" else 80
        return parts.hostname == mine.hostname and (parts.port or default) == (mine.port or default)
    except ValueError:
        return False
