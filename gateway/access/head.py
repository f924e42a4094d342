"""The head of a request, as far as access goes: before there is a request object, or anything else that costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Headers = list[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case, values without the blanks around them."""


class Head(NamedTuple):
    """`path` is decoded, `query` is not; `peer` is the address of whoever holds the other end of the connection."""

    method: str
    path: str
    query: bytes
    headers: Headers
    peer: str | None

    def get(self, name: bytes) -> str | None:
        """The first header of this (lower case) name."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None


def head_of(scope: Mapping[str, Any]) -> Head:
    """The head of an ASGI request."""
    client = scope.get("client")
    peer = client[0] if client else None
    return Head(scope["method"], scope["path"], scope["query_string"], scope["headers"], peer)
