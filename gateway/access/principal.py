"""Who is asking, and what they may see and do. Pure: what a request asks for is held against what is allowed here.

A `Principal` narrows the filter itself, so live events, replays, pages of history, webhooks and their logs cannot
differ.  Asking by name for more than is allowed is refused, and the refusal names what; asking for everything gives
everything that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from gateway.events import rules
from gateway.events.filter import Filter, GlobSet, channel_globs, stream_globs, type_globs

Scope = Literal["subscribe", "publish", "webhooks", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

OWN_PREFIX: Final = "gateway:"
"""Streams and keys that begin so are the gateway's own: read with the scope ``admin``, published to by nobody."""

LIMITS: Final = ("connections", "filters", "replays", "publish_events", "publish_bytes", "endpoints")
"""What a key may have its own limit for; the meaning of each is in `gateway.access.limits`."""


NOTHING: Final = Filter(allowed_channels=GlobSet(()), allowed_types=GlobSet(()))
"""Lets nothing through."""


class Refused(Exception):
    """More was asked for than is allowed. The message is for the client and names what, never what else there is."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. A part that is None allows everything; an empty `GlobSet` allows nothing.

    `id` is the same for all credentials of one caller: ``key:<id>``, ``jwt:<issuer> <subject>``, ``anonymous``.
    `expires_at` is Unix time in seconds. `limits` overrides the limits of the process, by name (`LIMITS`).
    """

    id: str
    scopes: frozenset[str]
    tenant: str | None = None
    channels: GlobSet | None = None
    types: GlobSet | None = None
    streams: GlobSet | None = None
    expires_at: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict, hash=False)
    signer: str | None = None
    """Of a token: the key of a key set that signed it (`VerifyKey.signer`)."""
    namespace: str = field(init=False, repr=False, compare=False)
    """Where what is counted for the caller and names that it chooses, such as idempotency keys, live apart."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "namespace", f"{self.id}\n{self.tenant or ''}")

    def may(self, scope: Scope) -> bool:
        """Whether it has `scope`. ``admin`` includes the others."""
        return scope in self.scopes or "admin" in self.scopes

    def demand(self, scope: Scope) -> None:
        """Raise `Refused` unless it has `scope`."""
        if not self.may(scope):
            raise Refused(f"this needs the scope {scope}")

    def expired(self, now: float) -> bool:
        """Whether its time is over at Unix time `now`."""
        return self.expires_at is not None and now >= self.expires_at

    def may_read(self, stream: str) -> bool:
        """Whether events of `stream` may be seen at all."""
        if stream.startswith(OWN_PREFIX) and "admin" not in self.scopes:
            return False
        return self.streams is None or stream in self.streams

    def narrow(self, wish: Filter, streams: Iterable[str] = ()) -> Filter:
        """What `wish` lets through of what is allowed. Raises `Refused` for a stream, channel or type that is not.

        A wish for everything is narrowed. A glob must lie within the allowed ones as a whole: half of what was asked
        for would look like all of it.
        """
        for stream in streams:
            if not self.may_read(stream):
                raise Refused(f"stream {stream} is not allowed")
        if self.channels is not None and wish.channels is not None:
            _contain("channel", wish.channels, self.channels)
        if self.types is not None and wish.types is not None:
            _contain("type", wish.types, self.types)
        if wish.tenant is not None:
            self.stamp(wish.tenant)
        return self.restrict(wish)

    def restrict(self, wish: Filter) -> Filter:
        """As `narrow`, but what is not allowed is left out in silence."""
        if self.tenant is not None and wish.tenant not in (None, self.tenant):
            return NOTHING
        if self.tenant is None and self.channels is None and self.types is None:
            return wish
        tenant = wish.tenant if self.tenant is None else self.tenant
        return Filter(wish.channels, wish.types, tenant, self.channels, self.types)

    def covers(self, filter_: Filter, stream: str) -> bool:
        """Whether all that `filter_` could ever let through of `stream` may be seen: an endpoint, its logs, its test.

        `filter_` may itself be a narrowed one.
        """
        return (
            self.may_read(stream)
            and (self.tenant is None or filter_.tenant == self.tenant)
            and _within(self.channels, filter_.channels, filter_.allowed_channels)
            and _within(self.types, filter_.types, filter_.allowed_types)
        )

    def sees(self, stream: str, tenant: str | None, channel: str, type_: str) -> bool:
        """Whether one event may be seen: a line of a delivery log, say."""
        return self.may_read(stream) and self.restrict(Filter()).accepts(tenant, channel, type_)

    def stamp(self, tenant: str | None) -> str | None:
        """The tenant that something made by this caller gets. Raises `Refused` for another's."""
        if self.tenant is None:
            return tenant
        if tenant is not None and tenant != self.tenant:
            raise Refused(f"tenant {tenant} is not allowed")
        return self.tenant

    def check_publish(self, stream: str, channel: str, type_: str) -> None:
        """Raise `Refused` unless such an event may be added."""
        if stream.startswith(OWN_PREFIX) or not self.may_read(stream):
            raise Refused(f"stream {stream} is not allowed")
        if self.channels is not None and channel not in self.channels:
            raise Refused(f"channel {channel} is not allowed")
        if self.types is not None and type_ not in self.types:
            raise Refused(f"type {type_} is not allowed")

    def grant(self) -> dict[str, Any]:
        """As JSON values, without credentials: kept with a ticket or an endpoint, and read back by `from_grant`."""
        return {
            "id": self.id,
            "scopes": sorted(self.scopes),
            "tenant": self.tenant,
            "channels": _listed(self.channels),
            "types": _listed(self.types),
            "streams": _listed(self.streams),
            "expires_at": self.expires_at,
            "limits": dict(self.limits),
            "signer": self.signer,
        }


def from_grant(grant: Mapping[str, Any]) -> Principal:
    """The principal of `Principal.grant`."""
    return Principal(
        grant["id"],
        frozenset(grant["scopes"]),
        grant["tenant"],
        _regained(grant["channels"]),
        _regained(grant["types"]),
        _regained(grant["streams"]),
        grant["expires_at"],
        grant["limits"],
        grant.get("signer"),
    )


def make_principal(id_: str, scopes: Iterable[str], rights: Mapping[str, Any], *, limits: Any = None) -> Principal:
    """From `rights` as a key or a token states them: ``tenant``, ``channels``, ``types``, ``streams``, ``expires_at``.

    Lists are lists or texts with commas or blanks between.  A list that is left out or null allows everything, an
    empty one nothing.  Scopes that mean nothing here are passed over, since tokens carry those of other services too.
    Raises `ValueError` for anything else: rights that cannot be understood must not become wide ones.
    """
    tenant = rights.get("tenant")
    if tenant is not None:
        if not isinstance(tenant, str):
            raise ValueError("tenant must be a string")
        try:
            rules.check_name(tenant)
        except ValueError as error:
            raise ValueError(f"tenant: {error}") from None
    return Principal(
        id_,
        frozenset(scopes) & frozenset(SCOPES),
        tenant,
        _globs("channels", rights, channel_globs),
        _globs("types", rights, type_globs),
        _globs("streams", rights, stream_globs),
        _moment(rights.get("expires_at")),
        _limits(limits),
    )


ANONYMOUS: Final = Principal("anonymous", frozenset(SCOPES))
"""Everybody, while nothing is configured."""


def texts(value: object) -> list[str]:
    """A list of texts, or one text with commas or blanks between. Raises `ValueError`."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return list(value)
    raise ValueError("must be a list of strings")


def _globs(name: str, rights: Mapping[str, Any], make: Any) -> GlobSet | None:
    value = rights.get(name)
    if value is None:
        return None
    globs = texts(value)
    if not globs:
        return GlobSet(())
    try:
        made: GlobSet | None = make(globs)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return made


def _moment(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ValueError("expires_at must be Unix time in seconds")
    return float(value)


def _limits(value: object) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        name in LIMITS and isinstance(limit, int | float) and not isinstance(limit, bool) and 0 <= limit < 1e15
        for name, limit in value.items()
    ):
        raise ValueError(f"limits must be numbers by name: {', '.join(LIMITS)}")
    return {name: float(limit) for name, limit in value.items()}


def _contain(what: str, asked: GlobSet, allowed: GlobSet) -> None:
    outside = [glob for glob in asked.globs if glob not in allowed]
    if outside:
        raise Refused(f"{what} {', '.join(outside[:10])} is not allowed")


def _within(allowed: GlobSet | None, *bounds: GlobSet | None) -> bool:
    # What passes all `bounds` lies within `allowed` when one of them does.
    if allowed is None:
        return True
    return any(bound is not None and all(glob in allowed for glob in bound.globs) for bound in bounds)


def _regained(globs: list[str] | None) -> GlobSet | None:
    return None if globs is None else GlobSet(globs)


def _listed(globs: GlobSet | None) -> list[str] | None:
    return None if globs is None else list(globs.globs)
