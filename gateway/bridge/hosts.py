"""Hosts that events bring along, and what each may take of an endpoint's attempts.

An endpoint that lets events bring URLs has one breaker, which is for its own URL.  Here is what keeps a host that hangs
from taking all that may be in flight: it gets a share, a smaller one once it fails, and what is beyond goes to the
retry ledger, so that the events behind it are not held up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from gateway.bridge.outcome import Outcome

_SHARE: Final = 4
"""A host gets this part of the attempts; all hosts that fail get it together, and one each."""
_FAILING: Final = 3
"""Failures in a row after which a host counts as failing."""
_SLOW: Final = 0.5
"""Seconds: a host that answers faster is waited for, which is cheaper than the ledger."""
_LATER, _LATEST = 1.0, 300.0
"""Seconds until what was put off is looked at again, at least and at most."""
_KNOWN: Final = 1000
"""Failing hosts that are remembered."""


@dataclass(slots=True)
class _Host:
    begun: list[float] = field(default_factory=list)
    """When each attempt under way began, Unix time."""
    failures: int = 0
    queue: float = 0.0
    """Until when what was put off has been given its turn."""
    took: float = 1.0
    """Seconds of the latest attempt."""


class Hosts:
    """Of one endpoint. `limit` tells how many of its attempts may be in flight; `luck` is random in [0, 1)."""

    def __init__(self, limit: Callable[[], int], luck: Callable[[], float]) -> None:
        self._limit = limit
        self._luck = luck
        self._hosts: dict[str, _Host] = {}

    def free(self, url: str) -> bool:
        """Whether an attempt at `url` may start."""
        host = self._hosts.get(_name(url))
        share = max(1, self._limit() // _SHARE)
        if host is None or not host.begun:
            return host is None or host.failures < _FAILING or self._failing_in_flight() < share
        return host.failures < _FAILING and len(host.begun) < share

    def hold_until(self, url: str, now: float) -> float:
        """Until when to wait for room at a host that has none, Unix time; in the past when it is not worth it."""
        host = self._hosts.get(_name(url))
        return 0.0 if host is None or not host.begun or host.failures else host.begun[0] + _SLOW

    def put_off(self, url: str, now: float) -> float:
        """Seconds until there may be room: one after the other, as far as can be told."""
        host = self._hosts.setdefault(_name(url), _Host())
        share = 1 if host.failures >= _FAILING else max(1, self._limit() // _SHARE)
        host.queue = max(host.queue, now + _LATER) + host.took / share
        wait = host.queue - now
        # Beyond the longest wait in no order, or all of them would be there at once.
        return wait if wait <= _LATEST else _LATEST * (0.5 + 0.5 * self._luck())

    def started(self, url: str, now: float) -> None:
        """An attempt at `url` begins."""
        self._hosts.setdefault(_name(url), _Host()).begun.append(now)

    def ended(self, url: str, outcome: Outcome, now: float) -> None:
        """The attempt that began first has ended, or another one: which, is all the same."""
        name = _name(url)
        host = self._hosts[name]
        host.took = now - host.begun.pop(0)
        if outcome.status == "delivered":
            host.failures, host.queue = 0, 0.0
        elif outcome.blames_receiver:
            host.failures += 1
        if not host.begun and (not host.failures or len(self._hosts) > _KNOWN):
            del self._hosts[name]

    def _failing_in_flight(self) -> int:
        return sum(len(host.begun) for host in self._hosts.values() if host.failures >= _FAILING)


def _name(url: str) -> str:
    return urlsplit(url).netloc
