"""What a worker is made of, and its durations: all from outside, so that a test can put in its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.backend.connection import Redis
from gateway.bridge.clock import Clock
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.ledger import Ledger
from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.ownurl import OwnUrls
from gateway.bridge.registry import Registry
from gateway.bridge.tools import Poster
from gateway.stream.log import Log


@dataclass(frozen=True, slots=True)
class Pace:
    """Durations of a worker, in seconds."""

    lease: float = 9.0
    """How long a shard stays ours without a sign of life; it moves within this and a third."""
    sweep: float = 10.0
    """How often positions are stored of endpoints that got nothing."""
    logs_age: float = 7 * 86400.0
    """How long log records are kept."""
    patience: float = 7.0
    """How long attempts in flight are waited for at the end; less than `lease`, which is not extended then."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker works with. `client` is for commands, `waiting` for the one that blocks.

    `monotonic` is seconds, `luck` random in [0, 1). `narrow` takes from an endpoint what its maker may not see (None:
    that one may see nothing any more). `failpoint` is for tests.
    """

    log: Log
    registry: Registry
    ledger: Ledger
    client: Redis
    waiting: Registry
    own_urls: OwnUrls
    sender: Poster
    metrics: BridgeMetrics
    clock: Clock
    monotonic: Callable[[], float]
    luck: Callable[[], float]
    shuffle: Callable[[list[int]], None]
    narrow: Callable[[Endpoint], Endpoint | None]
    failpoint: Callable[[str], None]
