"""What all pumps of a process share, and what a pump needs of its surroundings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.bridge.attempt import Attempt
from gateway.bridge.clock import Clock
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import Ledger
from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.render import Bodies
from gateway.events.position import EventId
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap


class Sending(Protocol):
    """An attempt under way."""

    def cancel(self) -> None: ...


class Poster(Protocol):
    """What the bridge needs of `gateway.bridge.sender.Sender`."""

    def send(
        self, url: str, headers: dict[str, str], body: bytes, timeout: float, done: Callable[[Attempt], None]
    ) -> Sending: ...

    async def post(self, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Attempt: ...


class Place(Protocol):
    """Where a pump reads: `gateway.bridge.feed.Feed`."""

    @property
    def position(self) -> EventId: ...

    async def cursor(self, position: EventId) -> tuple[Cursor, Gap | None]: ...

    def after_next(self, call: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """Shared by all pumps of a process."""

    ledger: Ledger
    sender: Poster
    bodies: Bodies
    clock: Clock
    luck: Callable[[], float]
    metrics: BridgeMetrics
    product: str
    failpoint: Callable[[str], None]
    """Called with a name at places where a test may want to end the process."""
    may_send: Callable[[str], bool]
    """Whether this process surely owns the endpoint now."""
    disable: Callable[[Endpoint, str], None]
