"""The one place that turns a request into a `Principal`, and tells the rest of the house when rights change.

What lies behind it never sees a credential.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import Request

from gateway.access.attempts import Attempts
from gateway.access.carrier import Credential, Unusable, find_credential
from gateway.access.head import Head, head_of
from gateway.access.jwt import BadToken, JwtVerifier
from gateway.access.keys import PREFIX, KeyRing
from gateway.access.limits import OverLimit, Rates
from gateway.access.policy import Policy
from gateway.access.principal import ANONYMOUS, Principal, Refused, Scope, from_grant
from gateway.access.sessions import Session, Sessions
from gateway.access.tickets import LIFETIME, Tickets, is_ticket
from gateway.backend.connection import UNAVAILABLE
from gateway.errors import Problem, unavailable
from gateway.events.filter import Filter

log = logging.getLogger("gateway.access")

_TICK: Final = 0.25
_BAD_KEY: Final = "the key is not known, or has ended"
_BAD_TICKET: Final = "the ticket is not known, was used, or is too old"
_GUARDED: Final = "/api/"
"""Everything below needs a credential while the gateway is closed."""


class Unauthenticated(Exception):
    """Without a credential, or with a bad one. The message is for the client."""


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
        attempts: Attempts,
        refused: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self.policy = policy
        self.sessions = sessions
        self.ring = ring
        self._jwt = jwt
        self._tickets = tickets
        self._rates = rates
        self.attempts = attempts
        self._refused = refused
        self._now = now
        ring.listeners.append(self.reconsider)

    def __repr__(self) -> str:
        return f"<Gate {'open' if self.open else 'closed'} {self.ring!r} {self._jwt!r} {self.sessions!r}>"

    @property
    def open(self) -> bool:
        """Whether nothing is configured, and that is all right."""
        return self.policy.may_be_open and self._jwt is None and not self.ring.ever_any

    async def run(self) -> None:
        """End what has expired, and have the key set read anew when it is old, for ever.

        Changes of keys come by `KeyRing.run`.
        """
        while True:
            self.sessions.expire()
            if self._jwt is not None:
                self._jwt.touch()
            await asyncio.sleep(_TICK)

    async def require(self, request: Request, scope: Scope) -> Principal:
        """Who sends `request`, if that one has `scope`. Raises as `identify`."""
        caller = await self.identify(request)
        caller.demand(scope)
        return caller

    async def allows(self, request: Request, scope: Scope) -> bool:
        """Whether `require` would let it pass."""
        try:
            await self.require(request, scope)
        except (Unauthenticated, Refused, OverLimit, Problem):
            return False
        return True

    async def identify(self, request: Request) -> Principal:
        """Who sends `request`. Raises `Unauthenticated`, `Refused`, `OverLimit`, `Problem`."""
        head = head_of(request.scope)
        if self._must_refresh(head):
            await self.ring.refresh()
        found = self._decide(head)
        return found if isinstance(found, Principal) else await self._look_up(found, head)

    def recall(self, head: Head) -> Principal | None:
        """Who sends it, if memory can tell; None when somebody would have to be asked. Raises as `identify`."""
        if self._must_refresh(head):
            return None
        found = self._decide(head)
        return found if isinstance(found, Principal) else None

    def _must_refresh(self, head: Head) -> bool:
        """Whether the keys must be read first: whoever sends a credential may know of a first key before we do."""
        return self.open and head.get(b"authorization") is not None

    def turn_away(self, head: Head) -> Problem | None:
        """The answer to a request that its head alone condemns; None for all that `identify` must look at, or lets in.

        For whoever wants to be rid of bad requests before they cost anything: it never waits.
        """
        if self.open or not head.path.startswith(_GUARDED) or head.method == "OPTIONS":
            return None
        try:
            self._decide(head)
        except (Unauthenticated, Refused, OverLimit) as error:
            problem = self.problem(error)
            for name, value in self.policy.origins.marks(head.get(b"origin")):
                problem.headers[name.decode()] = value.decode("latin-1")
            return problem
        return None

    def admit(self, caller: Principal, head: Head, wish: Filter, streams: tuple[str, ...]) -> Session:
        """Open a session for a subscription; close it when that is over.

        Raises `Refused`, `OverLimit`, `Unauthenticated`.
        """
        # Since the credential was checked there may have been a change that the session would never hear of.
        current = self.holder(caller)
        if current is None:
            raise Unauthenticated("the key or token has ended")
        return self.admit_known(current, head, wish, streams)

    def admit_known(self, caller: Principal, head: Head, wish: Filter, streams: tuple[str, ...]) -> Session:
        """As `admit`, without a second look at the rights: only if nothing was waited for since `caller` was named."""
        address = self.policy.address(head.peer, head.headers) if self.policy.count_addresses else None
        return self.sessions.open(caller, wish, streams, address)

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
        if caller.expired(self._now()) or not (self._jwt is None or self._jwt.honours(caller)):
            return None
        return caller

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
            if error.reason == "attempts":
                self.attempts.refused()
            self._refused(error.reason)
            headers = {"Retry-After": str(error.retry_after)}
            return Problem(503 if error.ours else 429, str(error), headers=headers)
        if isinstance(error, Refused):
            self._refused("forbidden")
            return Problem(403, str(error))
        self.attempts.refused()
        self._refused("unauthenticated")
        return Problem(401, str(error), headers={"WWW-Authenticate": 'Bearer realm="gateway"'})

    def _decide(self, head: Head) -> Principal | Credential:
        """Who sends it, as far as memory can tell, else the credential. Raises as `identify`; never waits."""
        if self.open:
            self.policy.check_page(head)
            return ANONYMOUS
        in_url = head.path == "/api/events" and head.method in ("GET", "HEAD")
        try:
            credential = find_credential(head.headers, head.query, in_url=in_url)
        except Unusable as error:
            raise Unauthenticated(str(error)) from None
        if credential is None:
            raise Unauthenticated("a key or token is needed: Authorization: Bearer")
        if credential.kind == "cookie":
            self.policy.check_cookie(head)
        try:
            return self._recall(credential)
        except LookupError:
            if self.attempts.over(self.policy.address(head.peer, head.headers), credential.text):
                raise OverLimit(
                    "attempts", "too many unknown keys or tickets from this address", retry_after=1
                ) from None
        return credential

    def _recall(self, credential: Credential) -> Principal:
        """Whose `credential` it is. Raises `Unauthenticated`, and `LookupError` when memory cannot tell."""
        text = credential.text
        if credential.kind == "ticket":
            if not is_ticket(text):
                raise Unauthenticated(_BAD_TICKET)
            raise LookupError
        if text.startswith(PREFIX):
            principal = self.ring.recall(text)
            if principal is None:
                raise Unauthenticated(_BAD_KEY)
            return principal
        if self._jwt is None:
            raise Unauthenticated("the token is not known")
        try:
            return self._jwt.recall(text)
        except BadToken as error:
            raise Unauthenticated(str(error)) from None

    async def _look_up(self, credential: Credential, head: Head) -> Principal:
        """Whose `credential` it is that memory does not know."""
        address = self.policy.address(head.peer, head.headers)
        self.attempts.begin(address, credential.text)
        principal = await self._authenticate(credential)
        self.attempts.forgive(address, credential.text)
        return principal

    async def _authenticate(self, credential: Credential) -> Principal:
        text = credential.text
        if credential.kind == "ticket":
            return await self._redeem(text)
        if text.startswith(PREFIX):
            principal = await self.ring.find(text)
            if principal is None:
                raise Unauthenticated(_BAD_KEY)
            return principal
        assert self._jwt is not None
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
            raise Unauthenticated(_BAD_TICKET)
        return principal

    def reconsider(self) -> None:
        """Rights may have changed: of a key, or by a rotation of the key set."""
        self.sessions.reconsider(self.holder)
