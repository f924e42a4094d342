"""One attempt at a delivery: what was sent, what came back, and how long each phase took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gateway.bridge.endpoint import masked
from gateway.events.event import format_time

ErrorClass = Literal[
    "blocked",
    "dns",
    "connect",
    "tls",
    "timeout",
    "disconnected",
    "protocol",
    "invalid_url",
    "unrenderable",
    "internal",
]
"""Why an attempt has no answer; decided by the type of the exception, never by its text.

``blocked``: the address or the scheme is not allowed. ``dns``: the name has no address. ``connect``: refused,
unreachable or reset before the request was sent. ``tls``: handshake or certificate. ``timeout``: the deadline passed.
``disconnected``: the connection ended before the answer did. ``protocol``: the answer is not HTTP. ``unrenderable``:
the event cannot be spelled in this dialect. ``internal``: a fault of the gateway, which costs the receiver nothing.
"""

BODY_KEPT: Final = 16 * 1024
"""Bytes of an answer's body that are read and kept."""


@dataclass(slots=True)
class Phases:
    """When each phase ended, in seconds from `begun` (monotonic); None for what did not happen: a connection that was
    open already needs no name, no connecting and no TLS."""

    begun: float
    dns: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    total: float = 0.0


@dataclass(slots=True)
class Attempt:
    """`started` is Unix time in seconds. `status` is None when no answer came; then `error` says why."""

    url: str
    started: float
    request_headers: dict[str, str]
    phases: Phases
    status: int | None = None
    error: ErrorClass | None = None
    detail: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False

    def record(self, number: int) -> dict[str, Any]:
        """As kept in the log; credentials masked."""
        phases = self.phases
        return {
            "attempt": number,
            "url": self.url,
            "started": format_time(int(self.started * 1000)),
            "request": {"headers": masked(self.request_headers)},
            "status": self.status,
            "error": self.error,
            "detail": self.detail,
            "response": {
                "headers": masked(self.response_headers),
                "body": self.body.decode("utf-8", "replace") if self.body else "",
                "truncated": self.truncated,
            },
            "duration": {
                "dns": _ms(phases.dns),
                "connect": _ms(phases.connect),
                "tls": _ms(phases.tls),
                "first_byte": _ms(phases.first_byte),
                "total": _ms(phases.total),
            },
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
