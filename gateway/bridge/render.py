"""From an event to the request of one attempt: body, then the signature over exactly that body."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from gateway.bridge.delivery import message_id
from gateway.bridge.dialects import Dialect
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.jscanonical import canonical
from gateway.bridge.signature import Signer
from gateway.events.envelope import ENCODERS, telnyx
from gateway.events.event import Event

_SHARED: Final = 256


class Request(NamedTuple):
    """What goes over the wire, but for what HTTP itself adds."""

    headers: dict[str, str]
    body: bytes


def body_of(dialect: Dialect, event: Event, attempt: int, url: str) -> bytes:
    """The body of attempt number `attempt` to `url`. Raises `ValueError` when the dialect cannot spell the event."""
    body = telnyx(event, attempt, url) if dialect.per_attempt else ENCODERS[dialect.envelope](event)
    return canonical(body) if dialect.javascript else body


class Bodies:
    """Bodies that several endpoints can share, the latest few."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[str, int], tuple[Event, bytes]] = OrderedDict()

    def get(self, dialect: Dialect, event: Event, attempt: int, url: str) -> bytes:
        """As `body_of`."""
        if dialect.per_attempt or dialect.javascript:
            return body_of(dialect, event, attempt, url)
        # Endpoints at the tail get the same object; to compare its bytes would cost as much as to encode them.
        key = (dialect.envelope, id(event))
        known = self._bodies.get(key)
        if known is not None and known[0] is event:
            return known[1]
        body = body_of(dialect, event, attempt, url)
        self._bodies[key] = (event, body)
        if len(self._bodies) > _SHARED:
            self._bodies.popitem(last=False)
        return body


class Stationery:
    """What one endpoint puts on every request; signs anew at each attempt."""

    def __init__(self, endpoint: Endpoint, bodies: Bodies, product: str) -> None:
        self._endpoint = endpoint
        self._bodies = bodies
        dialect = endpoint.dialect
        self._headers = {
            **endpoint.config.headers,
            "content-type": dialect.content_type,
            "user-agent": dialect.user_agent or product,
            "accept-encoding": "identity",
        }
        if not any(name.lower() == "accept" for name in self._headers):
            self._headers["accept"] = "*/*"
        self._signer: Signer | None = None
        self._until: float | None = None

    def request(self, event: Event, attempt: int, url: str, now: float) -> Request:
        """The request of one attempt at Unix time `now`. Raises `ValueError`."""
        body = self._bodies.get(self._endpoint.dialect, event, attempt, url)
        name = message_id(event)
        return Request({**self._headers, "webhook-id": name, **self._sign(now).headers(name, now, body)}, body)

    def _sign(self, now: float) -> Signer:
        """The signer with the secrets that are valid now."""
        if self._signer is None or (self._until is not None and now >= self._until):
            secrets = self._endpoint.live_secrets(now)
            ends = [secret.expires for secret in self._endpoint.secrets if secret.expires and secret.expires > now]
            self._until = min(ends, default=None)
            self._signer = Signer(self._endpoint.dialect.scheme, secrets)
        return self._signer
