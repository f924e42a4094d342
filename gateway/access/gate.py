"""The one place that turns a request into a `Principal`, and tells the rest of the house when rights change.

What lies behind it never sees a credential.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from starlette.requests import Request

from gateway.access.address import Addresses
from gateway.access.carrier import COOKIE, Credential, Unusable, find_credential, is_same_origin
from gateway.access.cors import Origins
from gateway.access.jwt import BadToken, JwtVerifier
from gateway.access.keys import LENGTH, PREFIX, KeyRing
from gateway.access.limits import OverLimit, Rates
from gateway.access.principal import ANONYMOUS, Principal, Refused, Scope, from_grant
from gateway.access.sessions import Session, Sessions
from gateway.access.tickets import LIFETIME, Tickets
from gateway.backend.connection import UNAVAILABLE
from gateway.errors import Problem, unavailable
from gateway.events.filter import Filter

log = logging.getLogger("gateway.access")

_TICK: Final = 0.25
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_PRIVATE_NAMES: Final = ("localhost", "internal", "test")
"""Top-level names that public DNS never answers for: RFC 6761, and ICANN's resolution on ``.internal``."""


class Unauthenticated(Exception):
    """Without a credential, or with a bad one. The message is for the client."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How requests are looked at.

    `may_be_open`: without any key or token setting everybody may do everything (loopback, or ``--insecure``).
    `check_host`: while open, answer no host name that public DNS could point at this machine.
    """

    may_be_open: bool
    check_host: bool
    origins: Origins
    addresses: Addresses
    count_addresses: bool = False


class Gate:
    """`refused` is told the reason of each refusal, for metrics; reasons are a closed set. `now` is Unix seconds."""

    def __init__(
        self,
        policy: Policy,
        ring: KeyRing,
        jwt: JwtVerifier | None,
        tickets: Tickets,
        sessions: Sessions,
        rates: Rates,
        refused: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.sessions = sessions
        self.ring = ring
        self._jwt = jwt
        self._tickets = tickets
        self._rates = rates
        self._refused = refused
        self._now = now
        ring.listeners.append(self._reconsider)

    def __repr__(self) -> str:
        return f"<Gate {'open' if self.open else 'closed'} {self.ring!r} {self._jwt!r} {self.sessions!r}>"

    @property
    def open(self) -> bool:
        """Whether nothing is configured, and that is all right."""
        return self.policy.may_be_open and self._jwt is None and not self.ring.ever_any

    async def run(self) -> None:
        """End what has expired, for ever. Changes of keys come by `KeyRing.run`."""
        while True:
            self.sessions.expire()
            await asyncio.sleep(_TICK)

    async def require(self, request: Request, scope: Scope) -> Principal:
        """Who sends `request`, if that one has `scope`. Raises `Unauthenticated`, `Refused`, `Problem`."""
        caller = await self.identify(request)
        caller.demand(scope)
        return caller

    async def allows(self, request: Request, scope: Scope) -> bool:
        """Whether `require` would let it pass."""
        try:
            await self.require(request, scope)
        except (Unauthenticated, Refused, Problem):
            return False
        return True

    async def identify(self, request: Request) -> Principal:
        """Who sends `request`. Raises `Unauthenticated`, `Refused`, `Problem`."""
        if self.open and any(name == b"authorization" for name, _ in request.scope["headers"]):
            # Whoever has a key knows of one that we may not have heard of yet.
            await self.ring.refresh()
        if self.open:
            self._check_page(request)
            return ANONYMOUS
        in_url = request.scope["method"] in ("GET", "HEAD") and request.scope["path"] == "/api/events"
        try:
            credential = find_credential(request.scope["headers"], request.scope["query_string"], in_url=in_url)
        except Unusable as error:
            raise Unauthenticated(str(error)) from None
        if credential is None:
            raise Unauthenticated("a key or token is needed: Authorization: Bearer")
        if credential.kind == "cookie":
            self._check_cookie_origin(request)
        return await self._authenticate(credential)

    def admit(self, caller: Principal, request: Request, wish: Filter, streams: tuple[str, ...]) -> Session:
        """Open a session for a subscription; close it when that is over. Raises `Refused`, `OverLimit`."""
        # Since the credential was checked there may have been a change that the session would never hear of.
        current = self.holder(caller)
        if current is None:
            raise Unauthenticated("the key or token has ended")
        return self.sessions.open(current, wish, streams, self._address(request))

    def meter_publish(self, caller: Principal, events: int, size: int) -> None:
        """Count a publish of `events` in `size` bytes of body. Raises `OverLimit`."""
        limits = self.sessions.limits
        self._rates.take(caller.namespace, "publish_bytes", limits.of(caller, "publish_bytes"), size)
        self._rates.take(caller.namespace, "publish_events", limits.of(caller, "publish_events"), events)

    async def issue_ticket(self, caller: Principal) -> dict[str, Any]:
        """The answer of ``POST /api/tickets``."""
        try:
            return {"ticket": await self._tickets.issue(caller), "expires_in": LIFETIME}
        except UNAVAILABLE:
            raise unavailable("Redis cannot be reached") from None

    def holder(self, caller: Principal) -> Principal | None:
        """The rights of `caller` now: a key's may have changed. None when there are none any more."""
        if caller.id == ANONYMOUS.id:
            return caller if self.open else None
        if caller.id.startswith("key:"):
            return self.ring.current(caller.id)
        return None if caller.expired(self._now()) else caller

    def current(self, grant: Mapping[str, Any]) -> Principal | None:
        """What the maker of something lasting, an endpoint, may see now; `grant` was kept with it.

        A key's rights are those of this moment.  A token's and everybody's are those of then: what they made is meant
        to outlast them.
        """
        maker = from_grant({**grant, "expires_at": None})
        return self.ring.current(maker.id) if maker.id.startswith("key:") else maker

    def problem(self, error: Exception) -> Problem:
        """The answer for what this package raises; counts it."""
        if isinstance(error, OverLimit):
            self._refused(error.reason)
            headers = {"Retry-After": str(error.retry_after)}
            return Problem(503 if error.ours else 429, str(error), headers=headers)
        if isinstance(error, Refused):
            self._refused("forbidden")
            return Problem(403, str(error))
        self._refused("unauthenticated")
        return Problem(401, str(error), headers={"WWW-Authenticate": 'Bearer realm="gateway"'})

    async def _authenticate(self, credential: Credential) -> Principal:
        if credential.kind == "ticket":
            return await self._redeem(credential.text)
        text = credential.text
        if text.startswith(PREFIX):
            principal = await self.ring.find(text) if len(text) == LENGTH else None
            if principal is None:
                raise Unauthenticated("the key is not known, or has ended")
            return principal
        if self._jwt is None:
            raise Unauthenticated("the token is not known")
        try:
            return await self._jwt.verify(text)
        except BadToken as error:
            raise Unauthenticated(str(error)) from None

    async def _redeem(self, ticket: str) -> Principal:
        try:
            grant = await self._tickets.redeem(ticket)
        except UNAVAILABLE:
            raise unavailable("Redis cannot be reached") from None
        principal = None if grant is None else self.holder(from_grant(grant))
        if principal is None and grant is not None and grant["id"].startswith("key:"):
            # A key that another process has heard of before us.
            await self.ring.refresh()
            principal = self.holder(from_grant(grant))
        if principal is None:
            raise Unauthenticated("the ticket is not known, was used, or is too old")
        return principal

    def _check_cookie_origin(self, request: Request) -> None:
        """A browser adds the cookie whoever's page asks: only our own pages and those of named origins may."""
        origin = request.headers.get("origin")
        if origin is None:
            site = request.headers.get("sec-fetch-site", "none")
            if site in ("none", "same-origin"):
                return
        elif self.policy.origins.trusts(origin) or is_same_origin(origin, request.headers.get("host", "")):
            return
        raise Refused(f"the cookie {COOKIE} does not count for pages of this origin")

    def _check_page(self, request: Request) -> None:
        """While open, the one danger is a web page that reaches through its visitor's browser."""
        host = request.headers.get("host", "")
        if self.policy.check_host and not _is_private_name(host):
            # DNS rebinding: a page's own host name, made to point here, is the same origin to the browser.
            raise Refused("without access control only local host names are served; create a key to close the gateway")
        origin = request.headers.get("origin")
        if origin is None or request.method in _SAFE_METHODS:
            return
        if not (origin in self.policy.origins or is_same_origin(origin, host)):
            raise Refused("pages of this origin may not do that")

    def _address(self, request: Request) -> str | None:
        if not self.policy.count_addresses:
            return None
        peer = request.client.host if request.client else None
        return self.policy.addresses.client(peer, request.headers.getlist("x-forwarded-for"))

    def _reconsider(self) -> None:
        self.sessions.reconsider(self.holder)


@lru_cache(maxsize=1024)
@lru_cache(maxsize=256)
def _is_private_name(host: str) -> bool:
    """An address, a name without dots, or one that public DNS cannot hold. No host at all is no browser."""
    if host.startswith("["):
        return True
    name = host.partition(":")[0].rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.rpartition(".")[2] in _PRIVATE_NAMES
    return True
