"""The rules of an event's fields, one function a field, the same for XADD and for HTTP.

Each returns nothing and raises `ValueError` with a sentence for people.  The patterns are ASCII, hold no quote, no
backslash and no control character: what passes here can be put into an SSE line, a JSON string or an HTTP header as
it is (a CR, LF or NUL in a field would let a publisher forge SSE fields, CWE-93).
"""

from __future__ import annotations

import re
from datetime import datetime
from urllib.parse import urlsplit

RESERVED_TYPE_PREFIX = "gateway."
MAX_URL = 2048

TYPE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}\Z")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:)([0-9]{2})(\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?\Z")
_URL_BAD = re.compile(r"[\x00-\x20\x7f\\]")


def check_type(text: str) -> None:
    """Dot-separated names of letters, digits, ``_`` and ``-``; at most 128 characters."""
    if len(text) > 128 or TYPE.match(text) is None:
        raise ValueError("must be dot-separated names of A-Z a-z 0-9 _ -, at most 128 characters")


def is_reserved_type(text: str) -> bool:
    """Types that only the gateway itself sends: ``gateway.*``."""
    return text.startswith(RESERVED_TYPE_PREFIX)


def check_name(text: str) -> None:
    """A channel or a tenant."""
    if NAME.match(text) is None:
        raise ValueError("must be 1 to 128 characters of A-Z a-z 0-9 _ . : / @ -")


def check_time(text: str) -> None:
    """RFC 3339 date-time, with its offset; at most nanoseconds."""
    match = _TIME.match(text)
    if match is not None:
        seconds = match[3]
        try:
            # RFC 3339 allows the leap second 60, datetime does not.
            offset = "+00:00" if text[-1] in "zZ" else text[-6:]
            datetime.fromisoformat(f"{match[1]}T{match[2]}{'59' if seconds == '60' else seconds}{offset}")
            return
        except ValueError:
            pass
    raise ValueError("must be an RFC 3339 time such as 2025-01-01T12:00:00.000Z")


def check_url(text: str) -> None:
    """An absolute http or https URL in ASCII without credentials or fragment, at most 2,048 characters."""
    if len(text) > MAX_URL:
        raise ValueError(f"must be at most {MAX_URL} characters")
    try:
        parts = urlsplit(text)
        if (
            text.isascii()
            and _URL_BAD.search(text) is None
            and parts.scheme in ("http", "https")
            and parts.hostname
            and (_HOST.match(parts.hostname) or ":" in parts.hostname)  # urlsplit has checked what is in brackets
            and parts.port != 0
            and "@" not in parts.netloc
            and not parts.fragment
        ):
            return
    except ValueError:
        pass
    raise ValueError("must be an absolute http or https URL in ASCII, without user, password or fragment")
