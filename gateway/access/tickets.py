"""Tickets: credentials for one request of a client that can send no header, such as ``EventSource``.

A ticket is worthless after 30 s and after one use, so it may stand in a URL.  It is taken from Redis in the act of
reading it (GETDEL, one command), so of two processes only one can accept it.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final

import orjson

from gateway.access.principal import Principal
from gateway.backend.connection import Redis

PREFIX: Final = "gwt_"
LENGTH: Final = len(PREFIX) + 43
LIFETIME: Final = 30
"""Seconds."""


def _key(ticket: str) -> str:
    # Whoever can read Redis must not be able to use what is there.
    return "gateway:ticket:" + hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()


def is_ticket(text: str) -> bool:
    """Whether it could be one."""
    return text.startswith(PREFIX) and len(text) == LENGTH


class Tickets:
    """Tickets in Redis. `token_bytes` gives so many random bytes. Raises `UNAVAILABLE` when Redis is away."""

    def __init__(self, client: Redis, token_bytes: Callable[[int], bytes]) -> None:
        self._client = client
        self._bytes = token_bytes

    async def issue(self, principal: Principal) -> str:
        """A ticket for one request as `principal`."""
        ticket = PREFIX + urlsafe_b64encode(self._bytes(32)).decode().rstrip("=")
        await self._run("SET", _key(ticket), orjson.dumps(principal.grant()), "EX", LIFETIME)
        return ticket

    async def redeem(self, ticket: str) -> dict[str, Any] | None:
        """The grant (`Principal.grant`) behind `ticket`, which this uses up; None for a ticket that is not good."""
        if not is_ticket(ticket):
            return None
        raw = await self._run("GETDEL", _key(ticket))
        if raw is None:
            return None
        grant: dict[str, Any] = orjson.loads(raw)
        return grant

    async def _run(self, *command: Any) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
